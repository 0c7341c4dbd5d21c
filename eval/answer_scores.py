"""Single answers of a run, scored by every metric."""

from __future__ import annotations

from eval.metrics import METRICS
from eval.observations import Observation
from eval.record import RunData
from eval.scorers import Outcome, Scoring, Subject


class AnswerScorer:
    """Scores single answers of one run."""

    def __init__(self, data: RunData, scoring: Scoring) -> None:
        self._data = data
        self._scoring = scoring
        self._arms = {arm.name: arm for arm in data.record.arms}
        self._cases = {case.id: case for case in data.cases}

    def score(self, seen: Observation) -> dict[str, Outcome]:
        """Every outcome by metric; empty for an answer that failed or whose arm is not of this run."""
        subject = self.subject(seen)
        if subject is None:
            return {}
        return {metric.name: metric.scorer(subject, self._scoring) for metric in METRICS}

    def subject(self, seen: Observation) -> Subject | None:
        """What scorers are asked about; None where there is nothing to score."""
        arm = self._arms.get(seen.arm)
        if seen.failed or arm is None:
            return None
        knowledge = arm.pin.knowledge or next(iter(self._data.record.knowledge), "")
        return Subject(
            case=self._cases[seen.case_id],
            seen=seen,
            ranking=self._data.rankings.get((seen.case_id, knowledge)),
            retrieves=arm.retrieves and self._cases[seen.case_id].passages != (),
        )
