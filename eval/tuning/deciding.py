"""May the candidate go on? Better than the strong prompt, no worse than what customers get now.

Each comparison is a gate of its own, by `eval.gating`. What was fixed once, what policy forbids and what the
candidate was trained on are asked of it once, whatever it is compared with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.cases import Case
from eval.gating.gates import Evidence, decide
from eval.gating.guards import Judging
from eval.gating.rules import GateRules, Goal, Guard
from eval.gating.sides import Side
from eval.gating.verdicts import Decision, PolicyLine, RegressionLine, State, Subject, Verdict
from eval.scorers import Scoring
from eval.tuning.contest import STRONG, Contest, named
from eval.tuning.questions import REGRESSION, unseen

_MUST, _WATCHED = Guard(), Guard(must_be_shown=False)
#: Being sure of the form is no reason to tune: what is better is asked of the fields and the text.
_PRIMARY = "fields_right"
_TEXT_GUARDS = {
    "hallucination_draft": _MUST,
    "hallucination_served": _MUST,
    **dict.fromkeys(
        (
            *("answer_right", "citations_valid", "tone_kept", "wording_kept", "format_valid"),
            *("abstained_when_due", "abstained_wrongly", "escalation_recall", "escalation_precision"),
            "refused_when_due",
        ),
        _WATCHED,
    ),
}
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The verdict with all that it rests on."""

    gate: str
    version: str
    verdict: Verdict
    refusals: tuple[str, ...]
    lacks: tuple[str, ...]
    #: By the name of the arm that the candidate is compared with.
    decisions: Mapping[str, Decision]
    regression: RegressionLine | None

    def sentence(self) -> str:
        """The verdict in plain words."""
        if self.verdict is Verdict.PASS:
            gains = [
                f"better than the {name} arm in "
                + ", ".join(line.metric for line in decision.lines if _is_gain(decision, line.metric))
                for name, decision in self.decisions.items()
                if any(_is_gain(decision, line.metric) for line in decision.lines)
            ]
            return f"PASS: {self.version}: {'; '.join(gains) or 'no worse'}."
        if self.verdict is Verdict.REFUSED:
            return f"REFUSED: {self.version}: {'; '.join(self.refusals)}."
        return f"NOT ENOUGH EVIDENCE: {self.version}: {'; '.join(self.lacks)}."


def rules_for(scoring: Scoring) -> GateRules:
    """What is asked of a tuned version where no rules file says otherwise."""
    if scoring.writes_text:
        return GateRules(name="tuning", primaries=(_PRIMARY,), guards=_TEXT_GUARDS)
    return GateRules(
        name="tuning", primaries=(_PRIMARY,), guards={"format_valid": _WATCHED}, zero_tolerance=()
    )


def judge(
    contest: Contest,
    sides: Mapping[str, Side],
    cases: Sequence[Case],
    *,
    rules: GateRules,
    policy: PolicyLine,
    unchecked: str,
    notes: Sequence[str],
    min_questions: int,
    resamples: int,
    seed: int,
) -> Judged:
    """Judge the candidate. `unchecked` says why nobody knows that its questions are unseen; "" if so."""
    sample = unseen(cases)
    candidate = sides[contest.candidate.name]
    decisions = {
        arm.name: decide(
            Evidence(
                subject=Subject(rail="model", version=candidate.arm.pin.model or "", against=named(arm)),
                stable=_only(sides[arm.name], sample),
                candidate=_only(candidate, sample),
                cases=sample,
                policy=policy,
                notes=tuple(notes),
            ),
            # Who is better than the strong prompt may be as good as what another training gave.
            rules if arm.name == STRONG else rules.model_copy(update={"goal": Goal.NOT_WORSE}),
            min_questions=min_questions,
            resamples=resamples,
            seed=seed,
        )
        for arm in contest.comparators
    }
    regression = _regression(candidate, cases, rules, min_questions=min_questions, seed=seed)
    refusals = [*_each(decisions, "refusals"), *_failed(regression)]
    lacks = [*_each(decisions, "lacks"), *_unanswered(regression), *filter(None, [unchecked])]
    verdict = Verdict.REFUSED if refusals else Verdict.NOT_ENOUGH if lacks else Verdict.PASS
    return Judged(
        gate=rules.name,
        version=candidate.arm.pin.model or "",
        verdict=verdict,
        refusals=tuple(refusals),
        lacks=tuple(lacks),
        decisions=decisions,
        regression=regression,
    )


def _only(side: Side, cases: Iterable[Case]) -> Side:
    """The side on some of the questions."""
    ids = {case.id for case in cases}
    kept: dict[str, Any] = {
        name: {case_id: value for case_id, value in getattr(side, name).items() if case_id in ids}
        for name in ("answers", "outcomes")
    }
    return Side(run=side.run, arm=side.arm, flips=side.flips, **kept)


def _each(decisions: Mapping[str, Decision], field: str) -> Iterable[str]:
    """What the comparisons say, and which of them says it; what both say is said once."""
    said: dict[str, list[str]] = {}
    for name, decision in decisions.items():
        for sentence in getattr(decision, field):
            said.setdefault(sentence, []).append(name)
    for sentence, names in said.items():
        yield sentence if len(names) == len(decisions) > 1 else f"against {names[0]}: {sentence}"


def _regression(
    candidate: Side, cases: Sequence[Case], rules: GateRules, *, min_questions: int, seed: int
) -> RegressionLine | None:
    wanted = [case.id for case in cases if case.split == REGRESSION]
    if not wanted:
        return None
    judging = Judging(
        rules=rules,
        stable=candidate,
        candidate=candidate,
        cases=cases,
        min_questions=min_questions,
        resamples=200,
        seed=seed,
    )
    return judging.regression(wanted, rules.primaries_of("model"))


def _failed(regression: RegressionLine | None) -> Iterable[str]:
    if regression is not None and regression.failed:
        names = list(regression.failed)
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        yield (
            f"regression set: {len(names)} of {regression.asked} questions fail "
            f"({', '.join(names[:_SHOWN])}{more})"
        )


def _unanswered(regression: RegressionLine | None) -> Iterable[str]:
    if regression is not None and regression.missing:
        case_id, why = next(iter(regression.missing.items()))
        yield (
            f"regression set: {len(regression.missing)} of {regression.asked} questions have no result "
            f"({case_id} {why})"
        )


def _is_gain(decision: Decision, metric: str) -> bool:
    return any(
        line.metric == metric and not line.part and line.state is State.BETTER for line in decision.lines
    )
