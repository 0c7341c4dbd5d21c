"""A base and adapters on it, small and right in every respect that can be checked without an engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from serving.adapter_checks import ADAPTER_FILE
from serving.adapter_configs import ADAPTER_CONFIG

WIDTH, NARROW, RANK, LAYERS = 8, 4, 2, 2
#: Layer of a block -> outputs and inputs.
SHAPES = {"self_attn.q_proj": (WIDTH, WIDTH), "self_attn.v_proj": (NARROW, WIDTH), "mlp.up_proj": (16, WIDTH)}
CONFIG = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": RANK,
    "lora_alpha": 4,
    "target_modules": ["q_proj", "v_proj"],
    "bias": "none",
    "base_model_name_or_path": None,
    "inference_mode": True,
}


def write_base(folder: Path) -> Path:
    """The weights of a tiny base; no engine would start on it."""
    tensors = {"model.embed_tokens.weight": np.ones((10, WIDTH)), "model.norm.weight": np.ones(WIDTH)}
    for layer in range(LAYERS):
        for module, shape in SHAPES.items():
            tensors[f"model.layers.{layer}.{module}.weight"] = np.ones(shape)
    folder.mkdir(parents=True)
    save_file(
        {name: value.astype(np.float32) for name, value in tensors.items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text("{}", encoding="utf-8")
    return folder


def tensor_name(layer: int, module: str, side: str) -> str:
    """As peft writes it."""
    return f"base_model.model.model.layers.{layer}.{module}.lora_{side}.weight"


def lora_tensors(*, modules: tuple[str, ...] = ("self_attn.q_proj", "self_attn.v_proj")) -> dict[str, Any]:
    """Pairs on every layer, none of them zero."""
    dice = np.random.default_rng(0)
    tensors = {}
    for layer in range(LAYERS):
        for module in modules:
            outputs, inputs = SHAPES[module]
            tensors[tensor_name(layer, module, "A")] = dice.normal(size=(RANK, inputs)).astype(np.float16)
            tensors[tensor_name(layer, module, "B")] = dice.normal(size=(outputs, RANK)).astype(np.float16)
    return tensors


def write_adapter(
    folder: Path,
    *,
    tensors: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    record: Mapping[str, Any] | None = None,
) -> Path:
    """An adapter; `config` changes some settings, `record` is written as the run's."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors or lora_tensors()), folder / ADAPTER_FILE, metadata={"format": "pt"})
    (folder / ADAPTER_CONFIG).write_text(json.dumps({**CONFIG, **(config or {})}), encoding="utf-8")
    if record is not None:
        (folder / "manifest.json").write_text(json.dumps(record), encoding="utf-8")
    return folder
