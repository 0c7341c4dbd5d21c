"""Index versions: how knowledge is indexed, and how a version's id follows from exactly that."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Self

from retrieval.confidence import COSINE_ONLY, Calibration
from retrieval.errors import RequestError

#: What a new version ranks by; the search function in `sql/` knows the formula, and decision 006 the reason.
FUSION = "coverage-1"
#: Share of a reranker that is named without one: as measured for the shipped model.
RERANK_WEIGHT = 0.3


class VersionState(StrEnum):
    """Whether a version may take traffic. Not part of its identity."""

    BUILDING = "building"
    READY = "ready"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeVersion:
    """An immutable way of indexing: all fields but `id` and `state` make the id `k-<name>-<sha8>`."""

    id: str
    name: str
    #: Id of the embedder, which names the model's bytes.
    embedder: str
    dims: int
    chunker: str
    lexer: str
    #: How both legs' scores become one order.
    fusion: str
    #: Share of the dense leg in the score, 0 to 1; the lexical leg has the rest.
    dense_weight: float
    #: Tokens (words and word pairs) of an average chunk for BM25: fixed, so that stored rows need no rewrite.
    avgdl: float
    #: Confidence under which an answer is not worth generating.
    abstain_below: float
    #: How confidence follows from a search; a tenant's own fit goes before it.
    calibration: Calibration
    #: Id of the cross-encoder that orders the best hits anew; empty for none.
    reranker: str
    #: Share of the reranker in the final order, 0 for none; the fused score has the rest.
    rerank_weight: float
    #: How a follow-up becomes a question of its own, by name of the prompt; empty for not at all.
    rewriter: str
    state: VersionState = VersionState.BUILDING

    @classmethod
    def make(
        cls,
        *,
        name: str,
        embedder: str,
        dims: int,
        chunker: str = "structure-200",
        lexer: str = "english-1",
        dense_weight: float = 0.55,
        avgdl: float = 330.0,
        abstain_below: float = 0.1,
        calibration: Calibration = COSINE_ONLY,
        reranker: str = "",
        rerank_weight: float = 0.0,
        rewriter: str = "",
    ) -> Self:
        """A version with the id that follows from its parts."""
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", name):
            raise RequestError(
                f"name: {name!r} is not a name; give 1 to 40 of the characters a-z, 0-9 and - (not at an end)"
            )
        shares = {
            "dense_weight": dense_weight,
            "abstain_below": abstain_below,
            "rerank_weight": rerank_weight,
        }
        for field, value in shares.items():
            if not 0 <= value <= 1:
                raise RequestError(f"{field}: {value} is not a share; give a number from 0 to 1")
        if reranker and not rerank_weight:
            raise RequestError(
                f"rerank_weight: 0 leaves {reranker} to read passages and change no order; "
                f"give more than 0, such as {RERANK_WEIGHT}, or no reranker"
            )
        if rerank_weight and not reranker:
            raise RequestError(f"rerank_weight: {rerank_weight} of no reranker; name one, or give 0")
        parts = {
            "embedder": embedder,
            "dims": dims,
            "chunker": chunker,
            "lexer": lexer,
            "fusion": FUSION,
            "dense_weight": dense_weight,
            "avgdl": avgdl,
            "abstain_below": abstain_below,
            "calibration": calibration,
            "reranker": reranker,
            "rerank_weight": rerank_weight,
            "rewriter": rewriter,
        }
        definition = json.dumps({**parts, "calibration": calibration.definition()}, sort_keys=True)
        digest = hashlib.sha256(definition.encode()).hexdigest()[:8]
        return cls(id=f"k-{name}-{digest}", name=name, **parts)  # type: ignore[arg-type]  # one dict, many types

    def derived(
        self,
        *,
        name: str,
        embedder: str | None = None,
        dims: int | None = None,
        chunker: str | None = None,
        dense_weight: float | None = None,
        abstain_below: float | None = None,
        calibration: Calibration | None = None,
        reranker: str | None = None,
        rerank_weight: float | None = None,
        rewriter: str | None = None,
    ) -> Self:
        """A version like this one but for what is given; None stands for what this one has.

        A share belongs to its reranker: another one begins with RERANK_WEIGHT. Cosines of another embedder
        mean something else, so a threshold is not taken over with one: nothing is refused until somebody has
        measured it.
        """
        if abstain_below is None:
            abstain_below = self.abstain_below if embedder in (None, self.embedder) else 0.0
        if rerank_weight is None and reranker not in (None, self.reranker):
            rerank_weight = RERANK_WEIGHT if reranker else 0.0
        given = {
            "embedder": embedder,
            "dims": dims,
            "chunker": chunker,
            "dense_weight": dense_weight,
            "abstain_below": abstain_below,
            "calibration": calibration,
            "reranker": reranker,
            "rerank_weight": rerank_weight,
            "rewriter": rewriter,
        }
        parts: dict[str, Any] = {
            key: getattr(self, key) if value is None else value for key, value in given.items()
        }
        return self.make(name=name, lexer=self.lexer, avgdl=self.avgdl, **parts)

    def row(self) -> dict[str, object]:
        """The fields by column name; the calibration as JSON."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**columns, "calibration": json.dumps(self.calibration.definition())}


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantFacts:
    """What a version holds of one tenant."""

    chunks: int
    #: First snapshot that it holds whole; None: all of them, or not known before the build has been there.
    earliest: int | None
    #: Of one that is being built: releases that it has, of those that it must have.
    filled: int | None
    wanted: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFacts:
    """A version with its part in the rail."""

    version: KnowledgeVersion
    #: Of `stable canary shadow previous undo`; empty: no traffic can reach it, so it may be retired.
    roles: tuple[str, ...]
    #: Chunks and indexes on disk.
    size_bytes: int
    tenants: Mapping[str, TenantFacts]

    @property
    def progress(self) -> float | None:
        """Share of a build that is done; None when it is not being built."""
        if self.version.state is not VersionState.BUILDING:
            return None
        wanted = sum(facts.wanted or 0 for facts in self.tenants.values())
        return sum(facts.filled or 0 for facts in self.tenants.values()) / wanted if wanted else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """What is live on the rail. `revision` rises with each move."""

    stable: str
    canary: str | None
    canary_weight_bp: int
    previous: str | None
    shadow: str | None
    salt: str
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoGoal:
    """What takes traffic after an undo of the version."""

    stable: str
    canary: str | None
    canary_weight_bp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """What an undo did. Undoing the same once more brings `before` back.

    Of a version, `before` and `after` are the stable ones, or if that stayed, the canaries (stable for none).
    """

    #: `publish` or `version`.
    what: str
    before: str
    after: str
