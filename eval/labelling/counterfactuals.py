"""Re-runs with one thing changed: what a question gets from the gold documents, from another index or model,
or as of the moment at which the articles stated what was lacking.

Arms of one run are each other's re-runs where they differ in one thing only. What is missing is asked on
demand and kept in a file of its own, because a re-run is no arm and counts in no metric.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson

from eval.arms import GOLD_CONTEXT, NO_CONTEXT, Arm, ArmKind
from eval.cases import Case
from eval.errors import RunError, StorageError
from eval.labelling.checks import check
from eval.labelling.corpus import Corpus
from eval.labelling.knowledge import knowledge_checks
from eval.labelling.labels import Check
from eval.labelling.moments import (
    CHANGED,
    Moment,
    as_of_arm,
    head_of,
    index_of,
    is_other_moment,
    reads_live,
)
from eval.observations import Observation
from eval.record import RunData
from eval.scorers import Score, Scoring, Subject, score_answer_vital

_FILE = "reruns.jsonl"
#: Which re-run decides whether knowledge was lacking, the surest first: name, what it says, what that means.
_SETTLING = (
    ("right_with_other_model", True, True),
    ("right_with_gold", True, False),
    ("right_with_other_index", True, False),
    ("right_as_of", True, False),
    ("right_as_of_live", True, False),
    ("right_with_gold", False, True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """The same question in another arm."""

    arm: Arm
    seen: Observation


@dataclass(frozen=True, slots=True, kw_only=True)
class Reruns:
    """Everything that can be set beside the answers of a run."""

    arms: Mapping[str, Arm]
    seen: Mapping[tuple[str, str], Observation] = field(default_factory=dict)

    @classmethod
    def of(cls, data: RunData, extra: Iterable[Rerun] = ()) -> Reruns:
        """The run's own arms, and what was asked beside them."""
        more = list(extra)
        return cls(
            arms={arm.name: arm for arm in data.record.arms} | {rerun.arm.name: rerun.arm for rerun in more},
            seen=dict(data.observations)
            | {(rerun.seen.case_id, rerun.arm.name): rerun.seen for rerun in more},
        )

    def beside(self, case_id: str, arm: Arm) -> Iterator[Rerun]:
        """The other answers to a question, those with the same model first, of these with the same prompt."""
        others = sorted(
            self.arms.values(),
            key=lambda other: (
                other.pin.model != arm.pin.model,
                other.pin.prompt != arm.pin.prompt,
                other.name,
            ),
        )
        for other in others:
            seen = self.seen.get((case_id, other.name))
            if other.name != arm.name and seen is not None and not seen.failed:
                yield Rerun(arm=other, seen=seen)


def gold_arm(arm: Arm) -> Arm:
    """The arm with the gold documents in its prompt."""
    return replace(
        arm, name=f"{arm.name}{CHANGED}gold", pin=replace(arm.pin, context=GOLD_CONTEXT), stated="oracle"
    )


def model_arm(arm: Arm, word: str, model: str) -> Arm:
    """The arm with another model version; `fallback` is the base model with its strong prompt."""
    stated = ArmKind.RAG if word == "fallback" else arm.kind
    pin = replace(arm.pin, model=model, prompt=None)
    return replace(arm, name=f"{arm.name}{CHANGED}{word}", pin=pin, stated=stated)


def rerun_checks(
    case: Case, arm: Arm, reruns: Reruns, *, scoring: Scoring, corpus: Corpus
) -> Iterator[Check]:
    """What the re-runs of one answer say. A kind of re-run that nobody made is no check."""
    beside = [rerun for rerun in reruns.beside(case.id, arm) if _right(case, rerun, scoring) is not None]
    if arm.pin.context != GOLD_CONTEXT and case.gold:
        golden = [rerun for rerun in beside if rerun.arm.pin.context == GOLD_CONTEXT]
        if golden:
            yield _gold_check(case, arm, golden[0], scoring, corpus)
    moments = [rerun for rerun in beside if is_other_moment(arm, rerun.arm)]
    head = head_of(corpus.histories(case.gold))
    for name, others in (
        ("right_with_other_index", [rerun for rerun in beside if _other_index(arm, rerun.arm)]),
        ("right_with_other_model", [rerun for rerun in beside if _other_model(arm, rerun.arm)]),
        ("right_as_of", [rerun for rerun in moments if not reads_live(rerun.arm, head)]),
        ("right_as_of_live", [rerun for rerun in moments if reads_live(rerun.arm, head)]),
    ):
        if others:
            right = [rerun.arm.name for rerun in others if _right(case, rerun, scoring)]
            yield check(
                name,
                bool(right),
                f"right in {', '.join(right)}" if right else f"wrong in {_names(others)} too",
                checker=scoring.version,
            )


def settle(checks: Sequence[Check]) -> tuple[Check, ...]:
    """The checks with the word on whether knowledge was lacking, and with what re-runs say of the corpus.

    What stood in the prompt says it where it can be told. Else what repairs the answer does: another model
    with the same passages clears retrieval, the gold documents or another index blame it, and what stays
    wrong with the gold documents has its cause after it.
    """
    known = {each.name: each for each in checks}
    context = known.get("in_context")
    if context is None:
        return tuple(checks)
    enough, why = context.value, context.detail
    if enough is None:
        for name, value, says in _SETTLING:
            rerun = known.get(name)
            if rerun is not None and rerun.value is value:
                enough, why = says, rerun.detail
                break
    settled = (_there_after_all(each, known, enough, why) for each in checks)
    return (*settled, check("enough", enough, why))


def _there_after_all(each: Check, known: Mapping[str, Check], enough: bool | None, why: str) -> Check:
    """What an answer was right from is there, whoever could read it; where it was right only as of another
    moment, it is not there now."""
    if each.name not in ("known", "current", "live_now") or each.value:
        return each
    if enough and each.name != "live_now":
        return check(each.name, True, why)
    if each.value is not None:
        return each
    gold, past, live = (known.get(name) for name in ("right_with_gold", "right_as_of", "right_as_of_live"))
    if live is not None and live.value:
        return check(each.name, each.name != "current", live.detail)
    if past is not None and past.value:
        return check(each.name, each.name == "known", past.detail)
    if gold is not None and gold.value and each.name != "live_now":
        return check(each.name, True, gold.detail)
    return each


def _gold_check(case: Case, arm: Arm, golden: Rerun, scoring: Scoring, corpus: Corpus) -> Check:
    note = ""
    if golden.arm.pin.model != arm.pin.model:
        note = f", whose model is {golden.seen.model_version}"
    elif golden.arm.pin.prompt != arm.pin.prompt:
        note = ", whose prompt is another one"
    if _right(case, golden, scoring):
        return check("right_with_gold", True, f"right in {golden.arm.name}{note}", checker=scoring.version)
    subject = Subject(case=case, seen=golden.seen, ranking=None, retrieves=False)
    shown = next(
        (each.value for each in knowledge_checks(subject, golden.arm, corpus) if each.name == "in_context"),
        None,
    )
    if shown:
        return check(
            "right_with_gold", False, f"wrong in {golden.arm.name} too{note}", checker=scoring.version
        )
    return check(
        "right_with_gold",
        None,
        f"wrong in {golden.arm.name}, but not every fact fitted into its prompt",
        checker=scoring.version,
    )


def _right(case: Case, rerun: Rerun, scoring: Scoring) -> bool | None:
    """Whether the answer key says so; None where it says nothing."""
    outcome = score_answer_vital(
        Subject(case=case, seen=rerun.seen, ranking=None, retrieves=rerun.arm.retrieves), scoring
    )
    return outcome.value > 0 if isinstance(outcome, Score) else None


def _other_index(arm: Arm, other: Arm) -> bool:
    return (
        arm.retrieves
        and other.retrieves
        and other.pin.model == arm.pin.model
        and other.pin.prompt == arm.pin.prompt
        and index_of(other.pin.knowledge) != index_of(arm.pin.knowledge)
        and other.pin.effective_on == arm.pin.effective_on
    )


def _other_model(arm: Arm, other: Arm) -> bool:
    return (
        other.pin.model != arm.pin.model
        and other.pin.context == arm.pin.context
        and (other.pin.knowledge == arm.pin.knowledge or arm.pin.context == NO_CONTEXT)
        and other.pin.effective_on == arm.pin.effective_on
    )


def _names(reruns: Iterable[Rerun]) -> str:
    return ", ".join(rerun.arm.name for rerun in reruns)


def wanted_reruns(
    case: Case, arm: Arm, reruns: Reruns, *, models: Mapping[str, str], moment: Moment | None
) -> Iterator[Arm]:
    """What should be asked about a failed answer and was not: gold documents first, then the model versions
    by the words for them, then the moment at which the articles stated what was lacking."""
    others = [rerun.arm for rerun in reruns.beside(case.id, arm)]
    golden = any(
        other.pin.context == GOLD_CONTEXT
        and other.pin.model == arm.pin.model
        and other.pin.prompt == arm.pin.prompt
        for other in others
    )
    if case.gold and arm.pin.context != GOLD_CONTEXT and not golden:
        yield gold_arm(arm)
    if not arm.retrieves:
        return
    asked = {arm.pin.model} | {other.pin.model for other in others if _other_model(arm, other)}
    for word, model in models.items():
        if model not in asked:
            asked.add(model)
            yield model_arm(arm, word, model)
    if moment is not None and (past := as_of_arm(arm, moment)).name not in {other.name for other in others}:
        yield past


class RerunFile:
    """`reruns.jsonl` of a run's folder: a line as each answer comes."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE

    def read(self) -> list[Rerun]:
        """What was asked so far; of repeated lines the last counts."""
        if not self._path.exists():
            return []
        found: dict[tuple[str, str], Rerun] = {}
        for number, line in enumerate(self._path.read_bytes().splitlines(), start=1):
            try:
                row = orjson.loads(line)
                rerun = Rerun(arm=Arm.from_json(row["arm"]), seen=Observation.from_json(row["seen"]))
            except orjson.JSONDecodeError:
                continue  # cut off when the process went down: it is asked for again
            except (KeyError, TypeError) as exc:
                raise RunError(
                    f"{self._path}:{number}: not a line of this version ({exc}); delete the file and rerun"
                ) from exc
            found[rerun.seen.case_id, rerun.arm.name] = rerun
        return list(found.values())

    def add(self, rerun: Rerun) -> None:
        """Keep an answer at once."""
        row = {"arm": rerun.arm.as_json(), "seen": rerun.seen.as_json()}
        try:
            with self._path.open("ab+") as file:
                if file.seek(0, os.SEEK_END):
                    file.seek(-1, os.SEEK_END)
                    # A line that was cut off must not swallow this one.
                    if file.read(1) != b"\n":
                        file.write(b"\n")
                file.write(orjson.dumps(row) + b"\n")
        except OSError as exc:
            raise StorageError(f"{self._path}: {exc.strerror}; free space, then --rerun again") from exc
