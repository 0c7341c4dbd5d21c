"""As of when the articles stated the facts of a question: a snapshot, and where that does not do a day.

A finding of stale or missing knowledge says that the text which was searched lacked what another text has or
had. Asked again as of that other text, the question comes out right, or something after the corpus is wrong
too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from eval.arms import Arm
from eval.cases import Case
from eval.documents import DocumentHistory, PastVersion, snapshot_of
from eval.labelling.equivalence import missing_in, perhaps_reworded

#: Stands between the arm's name and what was changed; no arm's name can hold it.
CHANGED = "+"
Stated = Callable[[Case, Sequence[PastVersion]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What to read: a snapshot, and the day whose facts count ("": the day of the question)."""

    snapshot: int
    day: str = ""

    def __str__(self) -> str:
        return f"{self.snapshot}:{self.day}" if self.day else str(self.snapshot)


def moment_of(
    case: Case, histories: Sequence[DocumentHistory] | None, *, searched: int | None, day: str
) -> Moment | None:
    """The newest moment at which the articles stated every fact in words other than those that were searched;
    None where they never did, or where they were not read."""
    if not histories or not case.vital_facts:
        return None
    head = head_of(histories) or 0
    was = _texts(_in_force(_shown(histories, head if searched is None else searched), day))
    states = [(moment, there) for moment, there in states_of(histories, head, day) if _texts(there) != was]
    for stated in (_stated, _perhaps_stated):
        for moment, versions in states:
            if stated(case, versions):
                return moment
    return None


def as_of_arm(arm: Arm, moment: Moment) -> Arm:
    """The arm that reads its index as of a moment."""
    index, _, _ = (arm.pin.knowledge or "").partition("@")
    pin = replace(arm.pin, knowledge=f"{index}@{moment.snapshot}", effective_on=moment.day or None)
    return replace(arm, name=f"{arm.name}{CHANGED}as_of@{moment}", pin=pin)


def is_other_moment(arm: Arm, other: Arm) -> bool:
    """Whether two arms read the same index with the same model and prompt as of two moments."""
    mine, theirs = arm.pin, other.pin
    return (
        arm.retrieves
        and other.retrieves
        and theirs.model == mine.model
        and theirs.prompt == mine.prompt
        and index_of(theirs.knowledge) == index_of(mine.knowledge)
        and (theirs.knowledge, theirs.effective_on) != (mine.knowledge, mine.effective_on)
    )


def head_of(histories: Sequence[DocumentHistory] | None) -> int | None:
    """The snapshot that was live when the articles were read."""
    return max((history.head for history in histories or ()), default=None)


def reads_live(arm: Arm, head: int | None) -> bool:
    """Whether an arm reads what is live, on the day of the question."""
    return arm.pin.effective_on is None and snapshot_of(arm.pin.knowledge or "") in (None, head)


def index_of(knowledge: str | None) -> str:
    """The version without its snapshot."""
    return (knowledge or "").partition("@")[0]


def _moments(histories: Sequence[DocumentHistory], head: int) -> Iterator[Moment]:
    """Every snapshot in which an article changed, the newest first; of each the day of the question, then the
    days from which a version held."""
    versions = [version for history in histories for version in history.versions]
    born = {release.born for version in versions for release in version.releases}
    days = sorted({version.effective_from for version in versions if version.effective_from}, reverse=True)
    snapshots = sorted({head, *(each for each in born if each <= head)}, reverse=True)
    for day in ("", *days):
        for snapshot in snapshots:
            yield Moment(snapshot=snapshot, day=day)


def states_of(
    histories: Sequence[DocumentHistory], head: int, day: str
) -> Iterator[tuple[Moment, list[PastVersion]]]:
    """What was in force at each moment, only the first of those that had the same: there are as many moments
    as snapshots times days, and hardly more states than versions."""
    shown: dict[int, list[PastVersion]] = {}
    known: set[tuple[int, ...]] = set()
    for moment in _moments(histories, head):
        if moment.snapshot not in shown:
            shown[moment.snapshot] = _shown(histories, moment.snapshot)
        versions = _in_force(shown[moment.snapshot], moment.day or day)
        state = tuple(map(id, versions))
        if state not in known:
            known.add(state)
            yield moment, versions


def _shown(histories: Sequence[DocumentHistory], snapshot: int) -> list[PastVersion]:
    return [version for history in histories if (version := history.at(snapshot))]


def _in_force(shown: Sequence[PastVersion], day: str) -> list[PastVersion]:
    return [version for version in shown if not day or version.holds_on(day)]


def _texts(versions: Sequence[PastVersion]) -> list[str]:
    return [version.words for version in versions]


def _stated(case: Case, versions: Sequence[PastVersion]) -> bool:
    return not missing_in(case.vital_facts, _texts(versions))


def _perhaps_stated(case: Case, versions: Sequence[PastVersion]) -> bool:
    missing = missing_in(case.vital_facts, _texts(versions))
    return all(perhaps_reworded(fact, _texts(versions)) for fact in missing)
