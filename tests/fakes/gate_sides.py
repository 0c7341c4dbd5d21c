"""Two arms of a gate made from lists of marks, without a run: what each question got in each metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from eval.arms import Arm, Pin
from eval.cases import Case
from eval.flips import Flips
from eval.gating.gates import Evidence
from eval.gating.sides import Side
from eval.gating.verdicts import PolicyLine, Subject
from eval.observations import Observation
from eval.scorers import NotApplicable, Outcome, Score, ScoreFailure
from eval.stats import Rate, upper_bound

STABLE, CANDIDATE = "stable", "candidate"
SUBJECT = Subject(rail="model", version="m-new-00000001", against="m-old-00000001")

#: A mark a question: `1` right, `0` wrong, `?` missing, `-` does not apply, `!` no answer.
Marks = Mapping[str, str]


def marks(right: int, n: int) -> str:
    """The first questions right, the rest wrong."""
    return "1" * right + "0" * (n - right)


def cases(n: int, *, topics: int = 20, kinds: Sequence[str] = ("answerable",)) -> tuple[Case, ...]:
    """Questions spread over topics in turn, and over kinds in blocks."""
    return tuple(
        Case(
            id=f"q{i:03d}",
            topic=f"t{i % topics:02d}",
            split="gate",
            text=f"question {i}",
            kind=kinds[i * len(kinds) // n],
        )
        for i in range(n)
    )


def side(
    name: str,
    scored: Marks,
    of: Sequence[Case],
    *,
    run: str = "runs/one",
    wall_ms: float = 1000.0,
    flips: Mapping[str, Rate] | None = None,
) -> Side:
    """An arm whose metrics have these marks. Marks say what the metric counts, not whether that is good."""
    model = SUBJECT.version if name == CANDIDATE else SUBJECT.against
    failed = {case.id for place, case in enumerate(of) if any(row[place] == "!" for row in scored.values())}
    return Side(
        run=run,
        arm=Arm(name=name, pin=Pin(knowledge="k-1@3", model=model)),
        answers={
            case.id: Observation(
                case_id=case.id,
                arm=name,
                error="504" if case.id in failed else "",
                wall_ms=wall_ms + place % 7,
            )
            for place, case in enumerate(of)
        },
        outcomes={
            case.id: {metric: _outcome(row[place]) for metric, row in scored.items()}
            for place, case in enumerate(of)
            if case.id not in failed
        },
        flips=Flips(repeats=3 if flips else 1, rates={name: flips} if flips else {}),
    )


def _outcome(mark: str) -> Outcome:
    if mark == "?":
        return ScoreFailure("could not tell")
    if mark == "-":
        return NotApplicable("means nothing here")
    return Score(float(mark), "" if mark == "1" else "wrong price")


def evidence(
    stable: Marks, candidate: Marks, of: Sequence[Case], /, *, broken: Sequence[str] = (), **changes: object
) -> Evidence:
    """Both arms, with policies checked on every question."""
    found = Evidence(
        subject=SUBJECT,
        stable=side(STABLE, stable, of),
        candidate=side(CANDIDATE, candidate, of),
        cases=of,
        policy=PolicyLine(
            policy="policy_violation",
            checked=len(of),
            broken=tuple(broken),
            at_most=upper_bound(len(broken), len(of)),
        ),
    )
    return replace(found, **changes)  # type: ignore[arg-type]
