"""The lines of a gate: each metric judged on its own, before anything is decided."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import exp, log

from eval.cases import Case
from eval.gating.rules import GateRules, Goal
from eval.gating.sides import METRIC, Matched, Side, flip_rate, match, match_measure
from eval.gating.verdicts import LimitLine, Line, PolicyLine, RegressionLine, Role, State
from eval.metrics import Metric
from eval.stats import (
    Pair,
    cluster_interval,
    design_effect,
    holm,
    mcnemar,
    mean,
    median,
    noninferiority_power,
    questions_needed,
    simulated_power,
    upper_bound,
    worst_difference,
)

_ALPHA = 0.05
#: Questions that are taken to move the wrong way when none was seen to: some always do.
LEAST_MOVING = 0.02
#: Fewer pairs give a bound so wide that its sign is chance.
_LEAST_PAIRS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """What every line is judged with."""

    rules: GateRules
    stable: Side
    candidate: Side
    cases: Sequence[Case]
    min_questions: int
    resamples: int
    seed: int

    def primaries(self, names: Iterable[str]) -> list[Line]:
        """The metrics that decide, with Holm over those of them that decide anything."""
        return self._family(
            [self._line(Role.PRIMARY, METRIC[name], self.rules.primary_margin) for name in names]
        )

    def guards(self, primaries: Iterable[str]) -> list[Line]:
        """The metrics that must not suffer."""
        deciding = set(primaries)
        return self._family(
            [
                self._line(Role.GUARD if guard.must_be_shown else Role.WATCHED, METRIC[name], guard.margin)
                for name, guard in self.rules.guards.items()
                if name not in deciding
            ]
        )

    def slices(self, primaries: Sequence[str]) -> list[Line]:
        """Every slice of every way to slice. Slices that are all the questions are left out."""
        rules = self.rules.slices
        lines = []
        for by in rules.by:
            parts: defaultdict[str, list[Case]] = defaultdict(list)
            for case in self.cases:
                parts[getattr(case, by) or "none"].append(case)
            for part, cases in sorted(parts.items() if len(parts) > 1 else ()):
                lines += [
                    self._line(Role.SLICE, METRIC[name], rules.margin, part=f"{by}={part}", cases=cases)
                    for name in rules.metrics or primaries
                ]
        return self._family([line for line in lines if line.state is not State.NO_DATA])

    def _line(
        self,
        role: Role,
        metric: Metric,
        margin: float,
        *,
        part: str = "",
        cases: Sequence[Case] | None = None,
    ) -> Line:
        """A line of one metric, with numbers where there are enough scores."""
        matched = match(metric, self.stable, self.candidate, self.cases if cases is None else cases)
        flips = flip_rate(metric, self.stable, self.candidate)
        line = Line(
            role=role,
            metric=metric.name,
            title=metric.title,
            part=part,
            state=State.NOT_SHOWN,
            margin=margin,
            flips=flips,
            flipping=flips is not None and flips.value > self.rules.max_flips,
            n=len(matched.pairs),
            missing=matched.missing,
            one_arm_only=matched.one_arm_only,
        )
        if not matched.pairs and not matched.missing:
            return replace(line, state=State.NO_DATA)
        if matched.missing > self.rules.max_missing * (len(matched.pairs) + matched.missing):
            return replace(line, state=State.MISSING)
        least = self.rules.slices.at_least if role is Role.SLICE else _LEAST_PAIRS
        if len(matched.pairs) < least:
            return line
        line = replace(line, few=self._few(matched) if role is Role.PRIMARY else "")
        return _measured(line, matched, resamples=self.resamples, seed=self.seed)

    def _few(self, matched: Matched) -> str:
        """What holds for all questions holds for those that a primary has a score of: on a few it decides
        nothing in favour of a candidate."""
        topics = len({pair.cluster for pair in matched.pairs})
        if len(matched.pairs) >= self.min_questions and topics >= self.rules.min_topics:
            return ""
        return (
            f"{len(matched.pairs)} questions of {topics} topics have a score in both arms; at least "
            f"{self.min_questions} of {self.rules.min_topics} are needed to call it better"
        )

    def _family(self, lines: Sequence[Line]) -> list[Line]:
        """Judge lines of one role together: the more of them, the smaller a p must be."""
        adjusted = holm({line.name: line.p for line in lines if line.p is not None and not line.flipping})
        judged = [_judged(replace(line, p_holm=adjusted.get(line.name, line.p))) for line in lines]
        return [replace(line, needed=self._needed(line)) if self._is_open(line) else line for line in judged]

    def _is_open(self, line: Line) -> bool:
        """Whether more questions would say more."""
        wants_gain = line.role is Role.PRIMARY and self.rules.goal is Goal.BETTER
        return line.state is State.NOT_SHOWN or (wants_gain and line.state is State.NOT_WORSE)

    def _needed(self, line: Line) -> int | None:
        """For a primary to show the gain that is wanted, for the rest to show that they are no worse."""
        n = max(1, line.n)
        if line.role is Role.PRIMARY and self.rules.goal is Goal.BETTER:
            wrong_way = max(line.only_stable / n, LEAST_MOVING)
            return needed_for_gain(self.rules.gain, wrong_way=wrong_way, effect=line.effect, seed=self.seed)
        moving = max((line.only_stable + line.only_candidate) / n, LEAST_MOVING)
        return questions_needed(
            lambda n: noninferiority_power(n, margin=line.margin, moving=moving, seed=self.seed),
            effect=line.effect,
        )

    def limits(self) -> list[LimitLine]:
        """Figures such as milliseconds, as ratios over the same questions."""
        return [self._limit(measure, limit) for measure, limit in self.rules.limits.items()]

    def _limit(self, measure: str, limit: float) -> LimitLine:
        measured = match_measure(measure, self.stable, self.candidate, self.cases)
        line = LimitLine(
            measure=measure,
            state=State.NOT_SHOWN,
            limit=limit,
            n=len(measured.logs),
            apart=measure == "wall_ms" and self.stable.run != self.candidate.run,
        )
        interval = cluster_interval(measured.logs, resamples=self.resamples, seed=self.seed)
        if len(measured.logs) < _LEAST_PAIRS or interval is None:
            return replace(line, state=State.NOT_SHOWN if measured.logs else State.NO_DATA)
        bound = cluster_interval(
            measured.logs, resamples=self.resamples, seed=self.seed, level=1 - 2 * _ALPHA
        )
        within = bound is not None and bound.high <= log(limit)
        ratio = exp(mean([pair.second - pair.first for pair in measured.logs]))
        # A little more that is surely more is within the limit; so much more that may be chance is not shown.
        beyond = interval.low > 0 and ratio > limit
        return replace(
            line,
            state=State.NOT_WORSE if within else State.WORSE if beyond else State.NOT_SHOWN,
            stable_median=median(measured.stable),
            candidate_median=median(measured.candidate),
            ratio=ratio,
            interval=replace(interval, low=exp(interval.low), high=exp(interval.high)),
        )

    def regression(self, wanted: Sequence[str], primaries: Sequence[str]) -> RegressionLine:
        """Questions that must be right by every primary that applies to them."""
        failed, missing = {}, {}
        known = {case.id for case in self.cases}
        for case_id in wanted:
            judged = {name: self.candidate.passes(case_id, METRIC[name]) for name in primaries}
            wrong = [name for name, passes in judged.items() if passes is False]
            if case_id not in known:
                missing[case_id] = "is not among the questions of the run"
            elif case_id not in self.candidate.answered:
                missing[case_id] = "got no answer"
            elif wrong:
                failed[case_id] = "; ".join(
                    f"{name}: {self.candidate.detail(case_id, METRIC[name]) or 'no'}" for name in wrong
                )
            elif not any(judged.values()):
                missing[case_id] = f"has no score for {', '.join(primaries)}"
        return RegressionLine(asked=len(wanted), failed=failed, missing=missing)

    def policy_metric(self, name: str) -> PolicyLine:
        """A metric in which no answer of the candidate may fail."""
        metric = METRIC[name]
        judged = {case.id: self.candidate.passes(case.id, metric) for case in self.cases}
        return policy_line(
            name,
            checked=sum(passes is not None for passes in judged.values()),
            broken=[case_id for case_id, passes in judged.items() if passes is False],
            unknown=sum(self.candidate.could_not_tell(case.id, metric) for case in self.cases),
            note="no answer has a score for it",
        )


def policy_line(policy: str, *, checked: int, broken: Sequence[str], unknown: int, note: str) -> PolicyLine:
    """A policy with the bound that its questions leave; `note` says why none was checked."""
    return PolicyLine(
        policy=policy,
        checked=checked,
        broken=tuple(sorted(broken)),
        unknown=unknown,
        note="" if checked else note,
        at_most=upper_bound(len(broken), checked) if checked else None,
    )


def needed_for_gain(gain: float, *, wrong_way: float, effect: float = 1.0, seed: int = 0) -> int | None:
    """Questions with which a gain is shown four times in five."""
    return questions_needed(
        lambda n: simulated_power(n, gain=gain, wrong_way=wrong_way, alpha=_ALPHA, seed=seed), effect=effect
    )


def _measured(line: Line, matched: Matched, *, resamples: int, seed: int) -> Line:
    """A line with its numbers; together with others of its role it is judged later."""
    pairs = matched.pairs
    test = mcnemar(pairs)
    swapped = [Pair(cluster=pair.cluster, first=pair.second, second=pair.first) for pair in pairs]
    return replace(
        line,
        stable=matched.stable,
        candidate=matched.candidate,
        only_stable=test.only_first,
        only_candidate=test.only_second,
        p=test.p,
        difference=mean([pair.second - pair.first for pair in pairs]),
        interval=cluster_interval(pairs, resamples=resamples, seed=seed),
        worst=worst_difference(pairs, resamples=resamples, seed=seed, alpha=_ALPHA),
        best=-worst_difference(swapped, resamples=resamples, seed=seed, alpha=_ALPHA),
        effect=design_effect(pairs),
    )


def _judged(line: Line) -> Line:
    """The state that the numbers of a line stand for: better and worse need the test and the interval."""
    if line.p_holm is None or line.difference is None or line.worst is None or line.interval is None:
        return line
    resolved = line.p_holm < _ALPHA
    if resolved and line.interval.low > 0 and not line.few:
        state = State.BETTER
    elif line.worst >= -line.margin:
        state = State.NOT_WORSE
    elif resolved and line.interval.high < 0:
        state = State.WORSE
    else:
        state = State.NOT_SHOWN
    return replace(line, state=state)
