"""Every figure of an evaluation as plain data, from which its text, Markdown and page are made.

A rate is k of n with its interval, per arm over all that has a score there. A difference is over the
questions that both arms were scored on, up for better, with McNemar's exact test and draws of whole topics;
its p counts among all metrics of the table (Holm).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp
from typing import Any, Final

from eval.cases import Case
from eval.gating.sides import METRIC, Side, match, match_measure
from eval.metrics import Metric
from eval.observations import Observation
from eval.report import rate_json
from eval.scorers import (
    Outcome,
    Score,
    ScoreFailure,
    Scoring,
    Subject,
    context_of,
    draft_answer,
    score_field,
    spaced,
)
from eval.stats import Pair, Rate, cluster_interval, holm, mcnemar, mean, median
from eval.tuning.coverage import COVERAGES, abstaining, curve
from eval.tuning.questions import POLICY, unseen
from serving.sentences import sentences

#: Of the first draft with nothing that holds the model to the schema.
FREE_FORMAT: Final = "format_valid_unconstrained"
_FREE_TITLE: Final = "first draft valid against the schema, without constrained decoding"
#: In the order in which they are read. Those of policy are asked of the policy questions too.
_METRICS: Final = (
    *("fields_right", "answer_right", "answer_vital", "status_right"),
    *("format_valid", "tone_kept", "wording_kept", "citations_valid", "cites_gold"),
    *("hallucination_draft", "hallucination_served"),
    *("abstained_when_due", "abstained_wrongly", "escalation_recall", "escalation_precision"),
    *("refused_when_due", "policy_broken"),
)
#: Of a task whose JSON only programs read.
_WITHOUT_TEXT: Final = ("fields_right", "format_valid")
_OF_POLICY: Final = frozenset({"refused_when_due", "policy_broken", "wording_kept"})
#: Metrics that only say that the form is right.
FORM: Final = frozenset({FREE_FORMAT, "format_valid"})
_MEASURES: Final = ("prompt_tokens", "completion_tokens", "wall_ms")
_ALPHA: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """The arms of an evaluation by name, with the candidate's name; `free` without constrained decoding."""

    candidate: str
    served: Mapping[str, Side]
    free: Mapping[str, Side]
    cases: Sequence[Case]
    #: What scorers see of each answer, by question and arm.
    subjects: Mapping[tuple[str, str], Subject]
    scoring: Scoring
    resamples: int
    seed: int

    @property
    def others(self) -> tuple[str, ...]:
        """The arms that the candidate is compared with."""
        return tuple(name for name in self.served if name != self.candidate)


def metric_rows(sides: Sides) -> list[dict[str, Any]]:
    """Each metric in each arm, and the candidate against each other arm."""
    tables: list[tuple[str, str, Metric, Mapping[str, Side], Sequence[Case]]] = []
    sample = unseen(sides.cases)
    with_policy = [case for case in sides.cases if case in sample or case.split == POLICY]
    if sides.free:
        tables.append((FREE_FORMAT, _FREE_TITLE, METRIC["format_valid"], sides.free, sample))
    for name in _METRICS if sides.scoring.writes_text else _WITHOUT_TEXT:
        asked = with_policy if name in _OF_POLICY else sample
        tables.append((name, METRIC[name].title, METRIC[name], sides.served, asked))
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "title": title,
            "higher_is_better": metric.higher_is_better,
            "arms": {arm: _rate(side, metric, cases) for arm, side in by_arm.items()},
            "against": {
                other: found
                for other in sides.others
                if (found := _paired(metric, by_arm[other], by_arm[sides.candidate], cases, sides))
            },
        }
        for name, title, metric, by_arm, cases in tables
    ]
    return _adjusted([row for row in rows if any(rate["n"] for rate in row["arms"].values())], sides.others)


def _rate(side: Side, metric: Metric, cases: Iterable[Case]) -> dict[str, Any]:
    values = [good for case in cases if (good := side.passes(case.id, metric)) is not None]
    k = sum(good == metric.higher_is_better for good in values)
    missing = sum(side.could_not_tell(case.id, metric) for case in cases)
    return {**rate_json(Rate(k=k, n=len(values)) if values else None), "missing": missing}


def _paired(
    metric: Metric, other: Side, candidate: Side, cases: Sequence[Case], sides: Sides
) -> dict[str, Any] | None:
    matched = match(metric, other, candidate, cases)
    return _difference(matched.pairs, sides) if matched.pairs else None


def _difference(pairs: Sequence[Pair], sides: Sides) -> dict[str, Any]:
    test = mcnemar(pairs)
    interval = cluster_interval(pairs, resamples=sides.resamples, seed=sides.seed)
    return {
        "n": test.n,
        "only_other": test.only_first,
        "only_candidate": test.only_second,
        "p": test.p,
        "difference": mean([pair.second - pair.first for pair in pairs]),
        "interval": [interval.low, interval.high] if interval else None,
        "topics": len({pair.cluster for pair in pairs}),
    }


def _adjusted(rows: list[dict[str, Any]], others: Sequence[str]) -> list[dict[str, Any]]:
    for other in others:
        found = {row["name"]: row["against"][other] for row in rows if other in row["against"]}
        for name, p in holm({name: each["p"] for name, each in found.items()}).items():
            found[name]["p_holm"] = p
            found[name]["says"] = _says(found[name])
    return rows


def _says(found: Mapping[str, Any]) -> str:
    if found["p_holm"] < _ALPHA and found["interval"] is not None:
        low, high = found["interval"]
        if low > 0:
            return "better"
        if high < 0:
            return "worse"
    return "not shown"


# ---- fields and kinds ------------------------------------------------------------------------------


def field_rows(sides: Sides) -> list[dict[str, Any]]:
    """Each field of the task by itself; of a field with few values, each value that was wanted too."""
    sample = unseen(sides.cases)
    known = dict.fromkeys(name for case in sample for name in case.wanted_fields)
    names = [name for name in known if not sides.scoring.is_free(name)]
    rows = []
    for name in names:
        rows.append({"field": name, "value": None, "arms": _field_rates(sides, name, sample)})
        values = {
            case.wanted_fields[name] for case in sample if isinstance(case.wanted_fields.get(name), str)
        }
        if not sides.scoring.writes_text:
            for value in sorted(values):
                some = [case for case in sample if case.wanted_fields.get(name) == value]
                rows.append({"field": name, "value": value, "arms": _field_rates(sides, name, some)})
    return rows


def _field_rates(sides: Sides, name: str, cases: Sequence[Case]) -> dict[str, Any]:
    return {
        arm: _of([score_field(subject, name) for subject in _subjects(sides, arm, cases)])
        for arm in sides.served
    }


def _subjects(sides: Sides, arm: str, cases: Iterable[Case]) -> list[Subject]:
    return [found for case in cases if (found := sides.subjects.get((case.id, arm))) is not None]


def _of(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    scores = [outcome.value for outcome in outcomes if isinstance(outcome, Score)]
    missing = sum(isinstance(outcome, ScoreFailure) for outcome in outcomes)
    good = sum(score > 0.5 for score in scores)
    return {**rate_json(Rate(k=good, n=len(scores)) if scores else None), "missing": missing}


def slice_rows(sides: Sides) -> list[dict[str, Any]]:
    """Every kind of question by itself: what is right of it in each arm."""
    rows = []
    for kind in sorted({case.kind or "none" for case in sides.cases}):
        cases = [case for case in sides.cases if (case.kind or "none") == kind]
        for name in ("fields_right", "status_right"):
            arms = {arm: _rate(side, METRIC[name], cases) for arm, side in sides.served.items()}
            if any(rate["n"] for rate in arms.values()):
                rows.append({"kind": kind, "questions": len(cases), "metric": name, "arms": arms})
    return rows


# ---- sentences -------------------------------------------------------------------------------------


def sentence_rows(sides: Sides) -> list[dict[str, Any]]:
    """Of all sentences that an arm wrote, and of those that it served, the unsupported ones."""
    if not sides.scoring.writes_text:
        return []
    sample = unseen(sides.cases)
    rows = []
    for what, read in (("drafts", _written), ("served", _served)):
        counted = {
            arm: {
                subject.case.id: found
                for subject in _subjects(sides, arm, sample)
                if (found := _unsupported(subject, read(subject, sides.scoring), sides.scoring))
            }
            for arm in sides.served
        }
        rows.append(
            {
                "of": what,
                "arms": {
                    arm: rate_json(_sum(found.values()) if found else None) for arm, found in counted.items()
                },
                "against": {
                    other: _shares(counted[other], counted[sides.candidate], sample, sides)
                    for other in sides.others
                },
            }
        )
    return rows


def _written(subject: Subject, scoring: Scoring) -> str:
    draft = subject.seen.draft
    return (draft_answer(draft.text, scoring.schema) or "") if draft else ""


def _served(subject: Subject, scoring: Scoring) -> str:
    """What the deployment says in its own words claims nothing."""
    answer = subject.seen.answer
    return "" if spaced(answer) in map(spaced, scoring.wordings) else answer


def _unsupported(subject: Subject, text: str, scoring: Scoring) -> Rate | None:
    context = context_of(subject)
    if isinstance(context, ScoreFailure):
        return None
    passages = [item.passage for item in context]
    each = [bare for span in sentences(text) if (bare := text[span.start : span.end].strip())]
    bad = sum(bool(scoring.unsupported(sentence, passages, subject.case.text)) for sentence in each)
    return Rate(k=bad, n=len(each)) if each else None


def _sum(rates: Iterable[Rate]) -> Rate:
    counted = list(rates)
    return Rate(k=sum(rate.k for rate in counted), n=sum(rate.n for rate in counted))


def _shares(
    other: Mapping[str, Rate], candidate: Mapping[str, Rate], cases: Sequence[Case], sides: Sides
) -> dict[str, Any] | None:
    """The share of unsupported sentences an answer, candidate less other: down is better."""
    pairs = [
        Pair(cluster=case.topic, first=other[case.id].value, second=candidate[case.id].value)
        for case in cases
        if case.id in other and case.id in candidate
    ]
    if not pairs:
        return None
    interval = cluster_interval(pairs, resamples=sides.resamples, seed=sides.seed)
    return {
        "n": len(pairs),
        "difference": mean([pair.second - pair.first for pair in pairs]),
        "interval": [interval.low, interval.high] if interval else None,
    }


# ---- tokens, time and confidence ---------------------------------------------------------------------


def measure_rows(sides: Sides) -> list[dict[str, Any]]:
    """Tokens and milliseconds: medians per arm, and the ratio over the same questions."""
    sample = unseen(sides.cases)
    rows: list[dict[str, Any]] = []
    for measure in _MEASURES:
        against = {}
        for other in sides.others:
            logs = match_measure(measure, sides.served[other], sides.served[sides.candidate], sample).logs
            interval = cluster_interval(logs, resamples=sides.resamples, seed=sides.seed)
            if logs:
                against[other] = {
                    "n": len(logs),
                    "ratio": exp(mean([pair.second - pair.first for pair in logs])),
                    "interval": [exp(interval.low), exp(interval.high)] if interval else None,
                }
        medians = {
            arm: median([value for seen in _answers(side, sample) if (value := getattr(seen, measure))])
            for arm, side in sides.served.items()
        }
        rows.append({"measure": measure, "medians": medians, "against": against})
    stages = dict.fromkeys(
        stage
        for side in sides.served.values()
        for seen in _answers(side, sample)
        for stage in seen.timings_ms
    )
    for stage in stages:
        medians = {
            arm: median(
                [seen.timings_ms[stage] for seen in _answers(side, sample) if stage in seen.timings_ms]
            )
            for arm, side in sides.served.items()
        }
        rows.append({"measure": f"ms: {stage}", "medians": medians, "against": {}})
    return rows


def _answers(side: Side, cases: Iterable[Case]) -> list[Observation]:
    return [side.answers[case.id] for case in cases if case.id in side.answered]


def risk_rows(sides: Sides) -> dict[str, Any]:
    """Risk against coverage of each arm."""
    metric = "answer_vital" if sides.scoring.writes_text else "fields_right"
    found = {
        arm: drawn
        for arm, side in sides.served.items()
        if (drawn := curve(side, unseen(sides.cases), metric)) is not None
    }
    return {
        arm: {
            "questions": drawn.questions,
            "served": rate_json(drawn.served),
            "area": drawn.area,
            "risk_at": {f"{coverage:g}": drawn.risk_at(coverage) for coverage in COVERAGES},
            "points": [asdict(point) for point in drawn.points],
        }
        for arm, drawn in found.items()
    }


def abstention_rows(sides: Sides) -> list[dict[str, Any]]:
    """Abstaining when due, where both arms give up as many questions that have an answer."""
    own = sides.served[sides.candidate]
    rows = []
    for other in sides.others:
        found = abstaining(own, sides.served[other], unseen(sides.cases))
        if found is not None:
            rows.append({"other": other, **{name: rate_json(rate) for name, rate in found.rates().items()}})
    return rows
