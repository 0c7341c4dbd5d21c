"""Whether the passages entail a sentence: a small model on this machine, and how much it is believed.

The model reads the sentence beside the few stretches of the passages that share most words with it; the best
of them decides. Its logit is one of the signs that a logistic regression weighs (`Weights`), so that the word
and value check next to it still counts. No LLM, no network. What it does not do: find values that stand in no
passage (serving.grounding does, and refuses them whatever this says).
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from serving.errors import EntailmentError
from serving.evidence_windows import MOST, evidence_windows
from serving.grounding import Signs
from serving.prompting import Passage

MODEL_FILES = ("model.onnx", "tokenizer.json")
#: The marks of MiniLM's tokenizer.
CLS, SEP, PAD = 101, 102, 0
#: Seconds that one sentence may take; the windows that were read by then decide.
DEADLINE_S = 0.15
#: Probability from which no further window is read.
_SURE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What makes the model large or small."""

    #: Layers of MiniLM that are kept, from 0, in their order.
    layers: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    #: Tokens of claim and evidence together.
    window: int = 144
    #: Tokens of a claim that are read, with its marks; the evidence has the rest of the window.
    claim_tokens: int = 56

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Self:
        """The shape that a model's manifest states."""
        return cls(
            layers=tuple(int(layer) for layer in manifest["layers"]),
            window=int(manifest["window"]),
            claim_tokens=int(manifest["claim_tokens"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The logistic regression over the signs. None of its weights is against its sign's direction."""

    bias: float
    logit: float
    overlap: float
    contradicted: float
    missing: float

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """The weights that a model's manifest states."""
        return cls(
            bias=float(given["bias"]),
            logit=float(given["logit"]),
            overlap=float(given["overlap"]),
            contradicted=float(given["contradicted"]),
            missing=float(given["missing"]),
        )

    def probability(self, logit: float, signs: Signs) -> float:
        """The signs as one probability of support."""
        total = self.bias + self.logit * logit + self.overlap * signs.overlap
        total -= self.contradicted * (signs.contrary is not None) + self.missing * bool(signs.missing)
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, total))))


def encode_pair(tokenizer: Any, claim: str, evidence: str, shape: Shape) -> tuple[list[int], list[int]]:
    """Token ids and segments of `[CLS] claim [SEP] evidence [SEP]`. `tokenizer` is a tokenizers.Tokenizer
    without truncation; a long claim loses its end, then the evidence does."""
    said = tokenizer.encode(claim, add_special_tokens=False).ids[: shape.claim_tokens - 2]
    head = [CLS, *said, SEP]
    read = tokenizer.encode(evidence, add_special_tokens=False).ids[: shape.window - len(head) - 1]
    return [*head, *read, SEP], [0] * len(head) + [1] * (len(read) + 1)


class OnnxEntailment:
    """The model of a folder that `serving.entailment_training` wrote. One thread, one pair at a time.

    Runs in the caller's thread: the caller that must not wait calls it in a worker thread.
    """

    def __init__(self, folder: Path, *, deadline_s: float = DEADLINE_S, most: int = MOST) -> None:
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in MODEL_FILES}
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            wanted = {name: str(manifest["sha256"][name]) for name in digests}
            self._shape = Shape.of(manifest)
            self._weights = Weights.of(manifest["weights"])
            self.threshold = float(manifest["threshold"])
            name = str(manifest["name"])
        except Exception as exc:  # tokenizers raises bare exceptions
            raise EntailmentError(
                f"{folder}: no entailment model there; python -m serving.entailment_training makes one"
            ) from exc
        for file, digest in digests.items():
            if digest != wanted[file]:
                raise EntailmentError(
                    f"{folder}: {file} is not the one of its manifest; put the folder back whole"
                )
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._deadline_s, self._most = deadline_s, most
        #: A sentence is checked again when its citations are gathered, and once more by evaluation.
        self._read = lru_cache(maxsize=256)(self._logit_of)
        self.id = f"{name}-{digests['model.onnx'][:8]}"

    def probability(self, sentence: str, passages: Sequence[Passage], signs: Signs) -> float | None:
        """How probable it is that the passages support the sentence, 0 to 1; None: could not tell in time."""
        best: float | None = None
        for logit in self._logits(sentence, passages):
            known = self._weights.probability(logit, signs)
            best = known if best is None else max(best, known)
            if best >= _SURE:
                break  # further windows could only say so again
        return best

    def logit(self, sentence: str, passages: Sequence[Passage]) -> float | None:
        """The model's own word: the best of the windows that were read before the deadline."""
        return max(self._logits(sentence, passages), default=None)

    def _logits(self, sentence: str, passages: Sequence[Passage]) -> Iterator[float]:
        ends_at = time.perf_counter() + self._deadline_s
        for window in evidence_windows(sentence, passages, most=self._most):
            if time.perf_counter() > ends_at:
                return
            yield self._read(sentence, window.text)

    def _logit_of(self, claim: str, evidence: str) -> float:
        ids, segments = encode_pair(self._tokenizer, claim, evidence, self._shape)
        feed = {
            "input_ids": np.array([ids], dtype=np.int64),
            "segments": np.array([segments], dtype=np.int64),
        }
        return float(self._session.run(["logit"], feed)[0][0])
