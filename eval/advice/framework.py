"""The decision framework filled in from the data: matrix, failure-to-fix map, cost comparison and checklist.

What the framework says stands beside what this run shows. Unmeasured cells say `no evidence`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from eval.advice.checklist import CheckRow, checklist
from eval.advice.costs import Amount, Costs
from eval.advice.deciding import Decision
from eval.advice.evidence import Logs
from eval.advice.facts import Diagnosis
from eval.advice.failure_map import MapRow, failure_map
from eval.advice.matrix import NO_EVIDENCE, MatrixRow, matrix_rows
from eval.advice.team import Team
from eval.arms import ArmKind


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRow:
    """A cost that belongs to one side."""

    side: str
    cost: Amount
    per: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """All four tables."""

    matrix: tuple[MatrixRow, ...]
    failure_map: tuple[MapRow, ...]
    cost_comparison: tuple[ComparisonRow, ...]
    checklist: tuple[CheckRow, ...]


def fill_in(
    logs: Logs, found: Diagnosis | None, decision: Decision, costs: Costs | None, team: Team
) -> Framework:
    """Every cell from the data."""
    return Framework(
        matrix=tuple(matrix_rows(logs, team)),
        failure_map=tuple(failure_map(found)),
        cost_comparison=tuple(_cost_comparison(costs)) if costs else (),
        checklist=tuple(checklist(logs, found, decision)),
    )


def _cost_comparison(costs: Costs) -> Iterator[ComparisonRow]:
    for amount in costs.rag_fixed_a_month:
        yield ComparisonRow(side="RAG", cost=amount, per="month")
    yield ComparisonRow(side="RAG", cost=_retrieval_calls(costs), per="answer")
    yield ComparisonRow(side="RAG", cost=_longer_prompts(costs), per="answer")
    yield ComparisonRow(
        side="RAG",
        cost=Amount(name="orchestration", amount=None, basis=f"{NO_EVIDENCE}: no run measures it"),
        per="month",
    )
    for amount in costs.tuning_once:
        yield ComparisonRow(side="Fine-tuning", cost=amount, per="once")
    yield ComparisonRow(side="Fine-tuning", cost=costs.tuning_a_year, per="year")
    yield ComparisonRow(
        side="Fine-tuning",
        cost=Amount(name="version maintenance", amount=None, basis=f"{NO_EVIDENCE}: no run measures it"),
        per="month",
    )


def _layer(costs: Costs, kinds: tuple[ArmKind, ...], name: str) -> Amount | None:
    for kind in kinds:
        for arm in costs.arms:
            if arm.kind is kind:
                return next(layer for layer in arm.layers if layer.name == name)
    return None


def _retrieval_calls(costs: Costs) -> Amount:
    found = _layer(costs, (ArmKind.RAG_PLUS, ArmKind.RAG), "retrieval")
    if found is None:
        return Amount(name="retrieval calls", amount=None, basis=f"{NO_EVIDENCE}: no RAG arm was measured")
    return Amount(name="retrieval calls", amount=found.amount, basis=found.basis)


def _longer_prompts(costs: Costs) -> Amount:
    long = _layer(costs, (ArmKind.RAG_PLUS, ArmKind.RAG), "prompt")
    short = _layer(costs, (ArmKind.PROMPT,), "prompt")
    if long is None or short is None or long.amount is None or short.amount is None:
        return Amount(
            name="longer prompts",
            amount=None,
            basis=f"{NO_EVIDENCE}: wants a prompt-only arm and a RAG arm with token counts and prices",
        )
    return Amount(
        name="longer prompts",
        amount=long.amount - short.amount,
        basis=f"{long.basis}, beside {short.basis} without retrieval",
    )
