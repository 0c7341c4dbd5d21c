"""What counts can show: groups of failures, and differences of two arms on the same questions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.advice_logs import STARTUP
from eval.advice.counts import Draws, State, difference, share_of, state_of
from eval.advice.evidence import ArmLog, Logs, Row
from eval.advice.facts import OracleSays, diagnose
from eval.arms import ArmKind
from eval.labelling.labels import Label, Outcome

DRAWS = Draws(resamples=400, seed=1)


def arm(name: str, kind: ArmKind, failing: range, *, n: int, clusters: int) -> ArmLog:
    return ArmLog(
        name=name,
        kind=kind,
        rows=tuple(
            Row(
                case_id=f"q{i:03d}",
                cluster=f"c{i % clusters}",
                task_type="",
                outcome=Outcome.FAILED if i in failing else Outcome.PASSED,
                label=Label.WRONG_RETRIEVAL if i in failing else None,
            )
            for i in range(n)
        ),
    )


def says(oracle: range, *, n: int, clusters: int) -> OracleSays:
    """What the oracle arm says of an arm that fails the first ten questions."""
    arms = (
        arm("rag", ArmKind.RAG, range(10), n=n, clusters=clusters),
        arm("oracle", ArmKind.ORACLE, oracle, n=n, clusters=clusters),
    )
    logs = Logs(run="", question_set_sha256="", labels_sha256="", criteria=(), arms=arms)
    found = diagnose(logs, STARTUP, DRAWS)
    assert found is not None
    return found.facts.oracle


def test_failures_of_one_cluster_are_not_serious_however_many() -> None:
    one = arm("rag", ArmKind.RAG, range(20), n=100, clusters=100)
    rows = tuple(replace(row, cluster="c") if row.failed else row for row in one.rows)
    from_one = replace(one, rows=rows)
    assert _information(one) is State.SERIOUS
    assert _information(from_one) is State.UNCLEAR


def _information(found: ArmLog) -> State:
    return state_of(share_of(found.decided, lambda row: row.failed))


def test_a_gain_that_every_draw_of_two_clusters_shows_is_not_shown() -> None:
    before = arm("a", ArmKind.RAG, range(2), n=100, clusters=2)
    after = arm("b", ArmKind.RAG_PLUS, range(0), n=100, clusters=2)
    found = difference(before, after, DRAWS)
    assert found is not None
    assert found.low is not None
    assert found.low > 0
    assert (found.p, found.better, found.worse) == (0.5, False, False)
    backwards = difference(after, before, DRAWS)
    assert backwards is not None
    assert not backwards.worse


@pytest.mark.parametrize(
    ("oracle", "n", "clusters", "expected"),
    [
        (range(0), 100, 10, OracleSays.GAINS),
        # No question moved: of a hundred that rules a gain out, of fifty it does not, whatever draws say.
        (range(10), 100, 2, OracleSays.NO_GAIN),
        (range(10), 50, 2, OracleSays.UNCLEAR),
        (range(4, 10), 100, 10, OracleSays.UNCLEAR),
    ],
)
def test_what_the_gold_documents_do(oracle: range, n: int, clusters: int, expected: OracleSays) -> None:
    assert says(oracle, n=n, clusters=clusters) is expected
