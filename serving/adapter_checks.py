"""What an adapter must be before it is copied, merged or given to an engine.

Somebody else made the folder. Nothing in it is run or unpickled, no weight is read before the header that
says where it lies was checked, and each refusal says what to do. That an adapter changes what the base
writes is not seen from its files: engines are probed for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from safetensors import SafetensorError, safe_open

from serving.adapter_configs import ADAPTER_CONFIG, MAX_RANK, AdapterConfig, read_config
from serving.digests import base_digest, digest_folder
from serving.errors import AdapterFileError, WeightsError
from serving.manifests import read_run_record

ADAPTER_FILE = "adapter_model.safetensors"
#: Rank 16 on every linear layer of a model of 8 billion weights takes 160 MiB.
MAX_BYTES = 1024 * 1024 * 1024
_MAX_CONFIG_BYTES = 1024 * 1024
_MAX_HEADER_BYTES = 8 * 1024 * 1024
_LENGTH_BYTES = 8

#: Formats that run code when they are loaded, and code itself.
_RUNS_CODE = frozenset(
    {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5"}
    | {".py", ".pyc", ".pyd", ".ipynb", ".sh", ".so", ".dll", ".exe", ".js"}
)
_ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".7z", ".xz", ".bz2", ".zst"})
_DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
_BF16_EXPONENT, _BF16_MAGNITUDE = 0x7F80, 0x7FFF

_UNNEEDED: Final[Mapping[str, str]] = {
    "lora_embedding_": "an embedding layer",
    "lora_magnitude_vector": "a DoRA magnitude",
    ".bias": "a bias",
    "embed_tokens": "an embedding layer",
    "lm_head": "the output layer",
}
_PREFIX = "base_model.model."
_SIDES: Final = (".lora_A.weight", ".lora_B.weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFacts:
    """What an adapter is checked against."""

    digest: str
    #: Linear layer -> outputs and inputs.
    layers: Mapping[str, tuple[int, int]]

    @classmethod
    def of(cls, folder: Path) -> Self:
        """The facts of a base on disk, from the headers of its safetensors alone."""
        layers: dict[str, tuple[int, int]] = {}
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(str(file), framework="np") as tensors:
                for name in tensors.keys():  # noqa: SIM118  (no mapping)
                    shape = tensors.get_slice(name).get_shape()
                    if name.endswith(".weight") and len(shape) == 2:
                        layers[name.removesuffix(".weight")] = (int(shape[0]), int(shape[1]))
        if not layers:
            raise WeightsError(f"{folder}: holds no base model; run `twinrail up` once, or give its folder")
        return cls(digest=base_digest(folder), layers=layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFacts:
    """What was found out about an adapter that may be used."""

    digest: str
    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    #: Digest of the base that it fits.
    base: str
    tensors: int
    bytes: int

    def record(self) -> dict[str, Any]:
        """These facts as a manifest calls them."""
        return {
            "adapter_digest": self.digest,
            "base_digest": self.base,
            "rank": self.rank,
            "alpha": self.alpha,
            "target_modules": list(self.target_modules),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tensor:
    dtype: np.dtype[Any]
    is_bf16: bool
    shape: tuple[int, ...]
    start: int


def check_adapter(
    folder: Path, *, base: Path | BaseFacts, max_bytes: int = MAX_BYTES, max_rank: int = MAX_RANK
) -> AdapterFacts:
    """Refuse an adapter that cannot be served on the base, with the reason; else what it is."""
    facts = BaseFacts.of(base) if isinstance(base, Path) else base
    check_files(folder, max_bytes=max_bytes)
    config = read_config(folder / ADAPTER_CONFIG, max_rank=max_rank)
    weights = folder / ADAPTER_FILE
    tensors = _read_header(weights)
    _check_pairs(weights, tensors, config, facts)
    _check_values(weights, tensors)
    found = AdapterFacts(
        digest=digest_folder(folder),
        rank=config.rank,
        alpha=config.alpha,
        target_modules=config.target_modules,
        base=facts.digest,
        tensors=len(tensors),
        bytes=weights.stat().st_size,
    )
    _check_record(folder, found)
    return found


# ---- the folder --------------------------------------------------------------------------------------


def check_files(folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
    """Names, kinds and sizes. Folders in it are not looked into: nothing there is copied or loaded."""
    if folder.is_file() and set(folder.suffixes) & _ARCHIVES:
        raise AdapterFileError(
            f"{folder}: is an archive; unpack it, look at what it holds, and give the folder"
        )
    if not folder.is_dir():
        raise AdapterFileError(f"{folder}: is no folder; give the one that holds {ADAPTER_FILE}")
    for entry in sorted(folder.iterdir()):
        if entry.is_symlink():
            raise AdapterFileError(
                f"{entry}: is a link, and may point to another file tomorrow; put the file itself there"
            )
        if entry.is_file() and {suffix.lower() for suffix in entry.suffixes} & _RUNS_CODE:
            raise AdapterFileError(
                f"{entry}: loading such a file can run code; adapters are safetensors only: remove it, "
                "and save the adapter with save_pretrained(safe_serialization=True)"
            )
        if entry.suffix == ".safetensors" and entry.name != ADAPTER_FILE:
            raise AdapterFileError(
                f"{entry}: an adapter has one file of weights, {ADAPTER_FILE}; remove it "
                "(new embeddings are not served)"
            )
    for name, limit in ((ADAPTER_FILE, max_bytes), (ADAPTER_CONFIG, _MAX_CONFIG_BYTES)):
        file = folder / name
        if not file.is_file():
            raise AdapterFileError(
                f"{folder}: must hold {ADAPTER_FILE} and {ADAPTER_CONFIG}; {name} is missing"
            )
        if (size := file.stat().st_size) > limit:
            raise AdapterFileError(
                f"{file}: takes {size} bytes, more than the {limit} that are allowed; "
                "train with a lower rank or fewer target modules, and save as float16"
            )


def _check_record(folder: Path, found: AdapterFacts) -> None:
    """What the run record says of the adapter must be what lies beside it."""
    record = read_run_record(folder)
    for name, value in found.record().items():
        told = record.get(name)
        if name == "target_modules" and told is not None:
            value, told = sorted(value), sorted(told) if isinstance(told, list) else told
        if told is not None and told != value:
            fix = (
                "it was trained on another base: register it where that base is served"
                if name == "base_digest"
                else "restore the file that was changed, or train the adapter again"
            )
            raise AdapterFileError(
                f"{folder}: {name}: its manifest says {_short(told)}, and it is {_short(value)}; {fix}"
            )


# ---- the weights -------------------------------------------------------------------------------------


def _read_header(path: Path) -> dict[str, _Tensor]:
    """Where which tensor lies. The library checks that they fill the file without gap or overlap."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if size < _LENGTH_BYTES or length > min(_MAX_HEADER_BYTES, size - _LENGTH_BYTES):
            raise AdapterFileError(
                f"{path}: its header claims {length} bytes of {size}; the file is cut short, "
                "or no safetensors file: copy it again"
            )
        header = file.read(length)
    try:
        with safe_open(str(path), framework="np"):
            pass
        entries = json.loads(header)
    except (SafetensorError, OSError, ValueError, RecursionError) as exc:
        raise AdapterFileError(f"{path}: is no whole safetensors file ({exc}); copy it again") from exc
    entries.pop("__metadata__", None)
    if not entries:
        raise AdapterFileError(f"{path}: holds no tensors; train the adapter, or copy it again")
    tensors = {}
    for name, entry in entries.items():
        if entry["dtype"] not in _DTYPES:
            raise AdapterFileError(
                f"{path}: {name}: is {entry['dtype']}; save the adapter as {', '.join(_DTYPES)}"
            )
        tensors[name] = _Tensor(
            dtype=_DTYPES[entry["dtype"]],
            is_bf16=entry["dtype"] == "BF16",
            shape=tuple(entry["shape"]),
            start=_LENGTH_BYTES + length + entry["data_offsets"][0],
        )
    return tensors


def _check_pairs(path: Path, tensors: Mapping[str, _Tensor], config: AdapterConfig, base: BaseFacts) -> None:
    """Every tensor is one side of a pair on a layer that the base has, of the rank that is told."""
    used = set()
    for name, tensor in tensors.items():
        side = next((side for side in _SIDES if name.endswith(side)), None)
        if side is None or not name.startswith(_PREFIX):
            what = next((what for part, what in _UNNEEDED.items() if part in name), "no LoRA matrix")
            raise AdapterFileError(
                f"{path}: {name}: is {what}; only pairs of lora_A and lora_B on linear layers are served: "
                "train a plain LoRA"
            )
        layer = name[len(_PREFIX) : -len(side)]
        other = _SIDES[1 - _SIDES.index(side)]
        if f"{_PREFIX}{layer}{other}" not in tensors:
            raise AdapterFileError(f"{path}: {name}: has no {other[1:]} beside it; save the adapter again")
        module = layer.rsplit(".", 1)[-1]
        if (refused := next((what for part, what in _UNNEEDED.items() if part in layer), None)) is not None:
            raise AdapterFileError(
                f"{path}: {name}: changes {refused}, which all versions share; leave it out"
            )
        if layer not in base.layers:
            raise AdapterFileError(
                f"{path}: {name}: the base has no layer {layer}; the adapter was trained on another base: "
                "register it where that one is served"
            )
        target = next((each for each in config.target_modules if f".{layer}".endswith(f".{each}")), None)
        if target is None:
            raise AdapterFileError(
                f"{path}: {name}: {module} is not among target_modules "
                f"({', '.join(config.target_modules)}) of {ADAPTER_CONFIG}; save the adapter again"
            )
        used.add(target)
        outputs, inputs = base.layers[layer]
        wanted = (config.rank, inputs) if side == _SIDES[0] else (outputs, config.rank)
        if tensor.shape != wanted:
            rank = tensor.shape[0 if side == _SIDES[0] else -1] if tensor.shape else 0
            fix = (
                f"{ADAPTER_CONFIG} says rank {config.rank}, and the weights have {rank}"
                if rank != config.rank
                else "the adapter was trained on another base"
            )
            raise AdapterFileError(
                f"{path}: {name}: has the shape {list(tensor.shape)}, and the base wants {list(wanted)}: "
                f"{fix}"
            )
    if unused := sorted(set(config.target_modules) - used):
        raise AdapterFileError(
            f"{path}: target_modules: {unused[0]} has no weights; save the adapter again, or remove it from "
            f"{ADAPTER_CONFIG}"
        )


def _check_values(path: Path, tensors: Mapping[str, _Tensor]) -> None:
    """Numbers, and at least one layer on which both sides are more than zeros."""
    moves = set()
    for name, tensor in tensors.items():
        values = np.memmap(path, dtype=tensor.dtype, mode="r", offset=tensor.start, shape=tensor.shape)
        if tensor.is_bf16:
            broken = bool(((values & _BF16_EXPONENT) == _BF16_EXPONENT).any())
            moved = bool((values & _BF16_MAGNITUDE).any())
        else:
            broken, moved = not bool(np.isfinite(values).all()), bool(values.any())
        if broken:
            raise AdapterFileError(
                f"{path}: {name}: holds values that are no numbers; training diverged: "
                "lower the learning rate"
            )
        if moved:
            moves.add(name)
    a, b = _SIDES
    if not any(name.endswith(a) and f"{name.removesuffix(a)}{b}" in moves for name in moves):
        raise AdapterFileError(
            f"{path}: changes nothing: on every layer one side is all zeros, as before the first step of "
            "training; train it"
        )


def _short(value: object) -> str:
    return value[:8] if isinstance(value, str) else str(value)
