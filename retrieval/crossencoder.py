"""The cross-encoder: question and passage read together by layers of all-MiniLM-L6-v2, one logit out.

Starts as a ranker that works: the encoder is the embedding model's, and the score is how well each word of
the question is matched by some word of the passage (late interaction over states that have seen both texts).
Training learns the rest. Needs torch and transformers; what `export` leaves needs only onnxruntime.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from retrieval.minilm import file_sha256, packaged_minilm, quiet_exporters

#: The embedding model's own marks.
CLS, SEP, PAD = 101, 102, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What makes a cross-encoder large or small."""

    #: Layers of the embedding model that are kept, from 0, in their order.
    layers: tuple[int, ...] = (0, 1, 2, 3)
    #: Tokens of question and passage together.
    window: int = 160
    #: Tokens of a question that are read, with its marks; the passage has the rest of the window.
    question_tokens: int = 64

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Self:
        """The shape that a model's manifest states."""
        return cls(
            layers=tuple(int(layer) for layer in manifest["layers"]),
            window=int(manifest["window"]),
            question_tokens=int(manifest["question_tokens"]),
        )


def encode_pair(tokenizer: Any, question: str, passage: str, shape: Shape) -> tuple[list[int], list[int]]:
    """Token ids and segments of `[CLS] question [SEP] passage [SEP]`. `tokenizer` is a tokenizers.Tokenizer
    without truncation; a long question loses its end, then the passage does."""
    asked = tokenizer.encode(question, add_special_tokens=False).ids[: shape.question_tokens - 2]
    head = [CLS, *asked, SEP]
    read = tokenizer.encode(passage, add_special_tokens=False).ids[: shape.window - len(head) - 1]
    return [*head, *read, SEP], [0] * len(head) + [1] * (len(read) + 1)


def build(shape: Shape) -> Any:
    """The untrained model, a torch module: (ids, segments, mask), each (B, T), to logits (B,)."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from transformers import AutoModel

    class CrossEncoder(torch.nn.Module):
        #: Logit -> a * logit + b, fitted after training so that its sigmoid is a probability.
        calibration: torch.Tensor

        def __init__(self, encoder: Any) -> None:
            super().__init__()
            self.encoder = encoder
            width = encoder.config.hidden_size
            self.pooled = torch.nn.Linear(width, width)
            self.judge = torch.nn.Linear(width, 1)
            # Scales of the three parts; the judge's starts at nothing, so that it disturbs nothing.
            self.scales = torch.nn.Parameter(torch.tensor([12.0, 4.0]))
            torch.nn.init.zeros_(self.judge.weight)
            torch.nn.init.zeros_(self.judge.bias)
            self.register_buffer("calibration", torch.tensor([1.0, 0.0]))

        def forward(
            self, input_ids: torch.Tensor, segments: torch.Tensor, mask: torch.Tensor
        ) -> torch.Tensor:
            states = self.encoder(
                input_ids=input_ids, attention_mask=mask, token_type_ids=segments
            ).last_hidden_state.float()  # (B, T, H)
            real = mask.float() * (input_ids != SEP).float() * (input_ids != CLS).float()  # (B, T)
            question, passage = real * (1 - segments), real * segments
            unit = torch.nn.functional.normalize(states, dim=-1)
            likeness = unit @ unit.transpose(1, 2)  # (B, T, T)
            best = (likeness - (1 - passage).unsqueeze(1) * 4).max(-1).values.clamp(min=-1)  # (B, T)
            matched = (best * question).sum(1) / question.sum(1).clamp(min=1)
            means = [
                torch.nn.functional.normalize(
                    (states * part.unsqueeze(-1)).sum(1) / part.sum(1).clamp(min=1).unsqueeze(-1), dim=-1
                )
                for part in (question, passage)
            ]
            alike = (means[0] * means[1]).sum(-1)
            judged = self.judge(torch.tanh(self.pooled(states[:, 0]))).squeeze(-1)
            logit: torch.Tensor = self.scales[0] * matched + self.scales[1] * alike + judged
            return self.calibration[0] * logit + self.calibration[1]

    encoder = AutoModel.from_pretrained(
        packaged_minilm(), attn_implementation="eager", dtype=torch.float32, add_pooling_layer=False
    )
    encoder.encoder.layer = torch.nn.ModuleList([encoder.encoder.layer[n] for n in shape.layers])
    encoder.config.num_hidden_layers = len(shape.layers)
    return CrossEncoder(encoder)


def export(
    model: Any, shape: Shape, tokenizer: Path, folder: Path, facts: Mapping[str, Any]
) -> dict[str, Any]:
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
            logits: torch.Tensor = self.inner(input_ids, segments, torch.ones_like(input_ids))
            return logits

    ids, segments = encode_pair_example()
    with quiet_exporters(), tempfile.TemporaryDirectory(dir=folder) as scratch:
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
        quantize_dynamic(str(full), str(folder / "model.onnx"), weight_type=QuantType.QInt8, per_channel=True)
    if tokenizer.resolve() != (folder / "tokenizer.json").resolve():
        shutil.copyfile(tokenizer, folder / "tokenizer.json")
    manifest = {
        "name": f"rerank-minilm{len(shape.layers)}",
        **asdict(shape),
        **facts,
        "licence": "Apache-2.0",
        "sha256": {name: file_sha256(folder / name) for name in ("model.onnx", "tokenizer.json")},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def encode_pair_example() -> tuple[list[int], list[int]]:
    """Any pair of 16 tokens, to trace the model with."""
    return [CLS, *range(2000, 2006), SEP, *range(2006, 2013), SEP], [0] * 8 + [1] * 8
