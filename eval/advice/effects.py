"""What each candidate fix would address, and what it may be expected to gain: measured, or at most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from eval.advice.counts import Difference, Draws, Share, share_of
from eval.advice.eligibility import Standing
from eval.advice.evidence import ArmLog, Row
from eval.advice.facts import Diagnosis
from eval.advice.layers import FIX_TEXTS, Fix, Layer, behaviour_of, code_of, fix_of, layer_of
from eval.arms import ArmKind
from eval.stats import Pair


class Basis(StrEnum):
    """How an expected effect is known."""

    #: An arm with the fix was asked the same questions.
    MEASURED = "measured"
    #: As if the fix mended everything that it addresses and broke nothing.
    AT_MOST = "at_most"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Passed answers gained, as a share of all, with its interval over clusters (None: one cluster only)."""

    basis: Basis
    value: float
    low: float | None
    high: float | None
    n: int
    clusters: int
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateFix:
    """A fix, the failures that it addresses in the diagnosed arm, and its expected effect."""

    fix: Fix
    title: str
    steps: str
    owner: str
    addresses: Share
    labels: tuple[str, ...]
    effect: Effect
    #: Two questions to read.
    examples: tuple[str, ...]


def candidate_fixes(found: Diagnosis, draws: Draws) -> tuple[CandidateFix, ...]:
    """Fixes that address at least one failure, the most first."""
    arm = found.end
    rows_of: dict[Fix, list[Row]] = {}
    eligible = {each.behaviour for each in found.eligibility if each.standing is Standing.ELIGIBLE}
    for row in arm.decided:
        layer = layer_of(row, arm.kind)
        fix = fix_of(layer, arm.kind) if layer else None
        if layer is Layer.BEHAVIOUR and behaviour_of(row) in eligible:
            # What is eligible has survived the prompts that were searched.
            fix = Fix.TUNE
        if fix is not None:
            rows_of.setdefault(fix, []).append(row)
    fixes = [_candidate(fix, rows, found, draws) for fix, rows in rows_of.items()]
    return tuple(sorted(fixes, key=lambda each: (-each.addresses.k, each.fix)))


def _candidate(fix: Fix, rows: list[Row], found: Diagnosis, draws: Draws) -> CandidateFix:
    ids = {row.case_id for row in rows}
    text = FIX_TEXTS[fix]
    return CandidateFix(
        fix=fix,
        title=text.title,
        steps=text.steps,
        owner=text.owner,
        addresses=share_of(found.end.decided, lambda row: row.case_id in ids),
        labels=tuple(sorted({code_of(row) for row in rows})),
        effect=next(_measured(fix, found), None) or _at_most(found.end, ids, draws),
        examples=tuple(sorted(ids)[:2]),
    )


def _measured(fix: Fix, found: Diagnosis) -> Iterator[Effect]:
    """From an arm that has the fix already. The oracle arm is the most that retrieval can give."""
    if fix is Fix.RETRIEVAL and found.oracle is not None:
        yield _of(found.oracle, Basis.MEASURED, "the most that retrieval can give: the gold documents given")
    if fix is Fix.ADD_RETRIEVAL and found.end.kind is ArmKind.PROMPT and found.oracle is not None:
        yield _of(found.oracle, Basis.MEASURED, "the most that retrieval can give: the gold documents given")
    if fix is Fix.TUNE and found.tuned is not None:
        yield _of(found.tuned, Basis.MEASURED, "a tuned model was asked the same questions")


def _of(measured: Difference, basis: Basis, how: str) -> Effect:
    return Effect(
        basis=basis,
        value=measured.value,
        low=measured.low,
        high=measured.high,
        n=measured.n,
        clusters=measured.clusters,
        how=f"{measured.second} minus {measured.first}: {how}",
    )


def _at_most(arm: ArmLog, ids: set[str], draws: Draws) -> Effect:
    rows = arm.decided
    pairs = [Pair(cluster=row.cluster, first=0.0, second=float(row.case_id in ids)) for row in rows]
    interval = draws.interval(pairs)
    return Effect(
        basis=Basis.AT_MOST,
        value=sum(pair.second for pair in pairs) / len(pairs),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        n=len(pairs),
        clusters=len({row.cluster for row in rows}),
        how="no arm has it: as if it mended all that it addresses and broke nothing",
    )
