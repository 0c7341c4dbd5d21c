"""What an adapter's configuration may say: a plain LoRA of one rank and one alpha, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final, TypeGuard

from serving.errors import AdapterFileError

ADAPTER_CONFIG = "adapter_config.json"
#: What engines are started to take; see `engine_command`.
MAX_RANK = 16

#: Settings with which an adapter is more than pairs of matrices, and why that is not served.
_PLAIN: Final[Mapping[str, str]] = {
    "modules_to_save": "whole layers would replace those of the base that all versions share",
    "use_dora": "merging and serving would scale the base's own weights",
    "use_rslora": "engines scale by alpha / rank, and this one wants alpha / sqrt(rank)",
    "lora_bias": "engines add no biases",
    "fan_in_fan_out": "the base's layers are not stored transposed",
    "rank_pattern": "engines take one rank for all layers",
    "alpha_pattern": "engines take one alpha for all layers",
    "target_parameters": "only linear layers are served with an adapter",
    "trainable_token_indices": "it would change the base's embeddings",
    "layer_replication": "it would change the base's layers",
    "megatron_config": "it belongs to another trainer",
    "auto_mapping": "it names classes to import",
    "alora_invocation_tokens": "engines would have to switch it on in the middle of a prompt",
    "use_qalora": "its groups of inputs are not served",
    "use_bdlora": "its blocks are not served",
    "arrow_config": "it chooses among several adapters",
    "kasa_config": "it weighs the ranks of each layer by itself",
    "layers_to_transform": "merging would leave out layers that engines use",
    "layers_pattern": "merging would leave out layers that engines use",
    "exclude_modules": "merging would leave out layers that engines use",
}
#: Starts that leave the base as it is; the others subtract something from its weights.
_STARTS = (None, True, False, "gaussian", "orthogonal", "eva")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterConfig:
    """What of it decides how the weights are used."""

    rank: int
    alpha: float
    target_modules: tuple[str, ...]


def read_config(path: Path, *, max_rank: int = MAX_RANK) -> AdapterConfig:
    """Refuse what engines would ignore, or take for something else than the trainer meant."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise AdapterFileError(f"{path}: cannot be read as JSON ({exc}); save the adapter again") from exc
    if not isinstance(config, dict):
        raise AdapterFileError(f"{path}: holds no JSON object; save the adapter again")
    if config.get("peft_type") != "LORA":
        raise AdapterFileError(
            f"{path}: peft_type: is {config.get('peft_type')!r}; only LORA adapters are served"
        )
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        raise AdapterFileError(f"{path}: task_type: is {config['task_type']!r}; train it as CAUSAL_LM")
    for name, reason in _PLAIN.items():
        if config.get(name):
            raise AdapterFileError(f"{path}: {name}: {reason}; train a plain LoRA without it")
    if config.get("bias") not in (None, "none"):
        raise AdapterFileError(f"{path}: bias: engines add no biases; train with bias='none'")
    if not any(
        config.get("init_lora_weights") is start or config.get("init_lora_weights") == start
        for start in _STARTS
    ):
        raise AdapterFileError(
            f"{path}: init_lora_weights: {config['init_lora_weights']!r} changes the base's own weights, "
            "which are shared; train from the default start"
        )
    _refuse_paths(config, path)
    rank, alpha, modules = config.get("r"), config.get("lora_alpha"), config.get("target_modules")
    if not _is_number(rank) or not isinstance(rank, int) or not 1 <= rank <= max_rank:
        raise AdapterFileError(
            f"{path}: r: {rank!r} is not a rank that engines take (1 to {max_rank}); train with another rank"
        )
    if not _is_number(alpha) or not 0 < alpha < float("inf"):
        raise AdapterFileError(
            f"{path}: lora_alpha: {alpha!r} is not a number above 0; save the adapter again"
        )
    if (
        not isinstance(modules, list)
        or not modules
        or not all(isinstance(each, str) and each for each in modules)
    ):
        raise AdapterFileError(
            f'{path}: target_modules: must be a list of the layers\' names, such as ["q_proj", "v_proj"]; '
            "engines read no patterns"
        )
    return AdapterConfig(rank=rank, alpha=float(alpha), target_modules=tuple(sorted(set(modules))))


def _refuse_paths(config: Mapping[str, Any], path: Path) -> None:
    """Nothing in a configuration names a file but the base, which is only a name and is never opened."""
    for name, value in config.items():
        if name == "base_model_name_or_path" or not isinstance(value, str):
            continue
        parts = {*PurePosixPath(value).parts, *PureWindowsPath(value).parts}
        if ".." in parts or PurePosixPath(value).is_absolute() or PureWindowsPath(value).drive:
            raise AdapterFileError(
                f"{path}: {name}: {value!r} points to a file outside the adapter; remove it"
            )


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
