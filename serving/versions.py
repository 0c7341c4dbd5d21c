"""Model versions: what one is made of, and how its id follows from that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serving.prompting import PromptTemplate


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How tokens are chosen; part of a version's identity."""

    max_tokens: int = 160
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    #: Whether vLLM's structured output holds the model to the schema.
    constrained: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """An immutable release of the model rail: base + adapter + prompt + schema + decoding.

    The id `m-<name>-<sha8>` is a digest of exactly these fields, and it is the name under which vLLM serves it.
    """

    name: str
    base_digest: str
    adapter_digest: str | None
    prompt: PromptTemplate
    task: str
    schema: Mapping[str, Any]
    decoding: Decoding = field(default_factory=Decoding)
    #: Tokens the rendered prompt may take.
    prompt_budget_tokens: int = 700
