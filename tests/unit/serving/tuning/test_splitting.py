"""What is held together when rows are split, and the leak test on rows that others have split."""

from __future__ import annotations

from typing import Any

import pytest

from serving.examples import Row, parse_row
from serving.tuning.dataset_folder import SPLITS
from serving.tuning.leaks import find_leaks, find_repeats
from serving.tuning.likeness import Task
from serving.tuning.splitting import Split, split_rows
from serving.versions import SCHEMAS, load_task_schema
from serving.wording import load_wording
from tests.fakes.support_rows import row, rows

SCHEMA = load_task_schema(SCHEMAS / "support_answer.json")
WORDING = load_wording()
TASK = Task(schema=SCHEMA, wordings=WORDING.all())
SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}


def read(*raw: dict[str, Any]) -> list[Row]:
    return [parse_row(each, "test", SCHEMA) for each in raw]


def split(*raw: dict[str, Any], seed: int = 0) -> Split:
    return split_rows(read(*raw), SHARES, task=TASK, seed=seed)


def places(done: Split) -> dict[str, str]:
    return {each.id: name for name in SPLITS for each in done.rows[name]}


def test_every_split_gets_its_share_of_what_is_taught() -> None:
    done = split(*rows(300))
    sizes = [len(done.rows[name]) for name in SPLITS]
    assert sizes == [240, 30, 30]
    for name in SPLITS:
        intents = [each.wanted["intent"] for each in done.rows[name]]
        assert {intents.count(intent) for intent in set(intents)} == {len(intents) // 3}
    assert done.groups == 300
    assert not done.by_time
    assert places(split(*rows(300), seed=1)) != places(done)


@pytest.mark.parametrize("name", ["group", "customer", "cluster"])
@pytest.mark.parametrize("seed", range(5))
def test_what_belongs_together_stays_together(name: str, seed: int) -> None:
    raw = [row(n, **{name: f"{n % 40}"}) for n in range(120)]
    done = split(*raw, seed=seed)
    where = places(done)
    assert all(
        where[f"row-{n:04}"] == where[f"row-{n + 40:04}"] == where[f"row-{n + 80:04}"] for n in range(40)
    )
    assert done.groups == 40
    assert find_leaks(done.rows, task=TASK) == []


@pytest.mark.parametrize("seed", range(5))
def test_nearly_the_same_question_is_never_on_two_sides(seed: int) -> None:
    twins = [row(n, id=f"twin-{n}", question=f"please, {row(n)['question']} now") for n in range(40)]
    done = split(*rows(80), *twins, seed=seed)
    where = places(done)
    assert all(where[f"row-{n:04}"] == where[f"twin-{n}"] for n in range(40))


def test_links_are_followed_through_others() -> None:
    raw = [*rows(60), row(100, id="a", group="g", customer="c"), row(101, id="b", customer="c", cluster="k")]
    raw.append(row(102, id="c", cluster="k"))
    where = places(split(*raw))
    assert where["a"] == where["b"] == where["c"]


def test_the_newest_groups_are_the_test() -> None:
    raw = [row(n, at=f"2026-{1 + n // 28:02}-{1 + n % 28:02}") for n in range(200)]
    done = split(*raw)
    assert done.by_time
    assert len(done.rows["test"]) == 20
    assert min(each.at for each in done.rows["test"]) > max(each.at for each in done.rows["train"])


def test_a_customer_of_all_times_does_not_become_the_test() -> None:
    raw = [row(n, at=f"2026-{1 + n // 28:02}-{1 + n % 28:02}") for n in range(200)]
    for n in range(0, 200, 2):
        raw[n]["customer"] = "regular"
    done = split(*raw)
    assert len(done.rows["test"]) == 20
    assert {each.customer for each in done.rows["test"]} == {""}


PLANTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "conversation": (row(1, group="g"), row(2, group="g")),
    "customer": (row(1, customer="g"), row(2, customer="g")),
    "cluster": (row(1, cluster="g"), row(2, cluster="g")),
    "near question": (row(1), row(2, question=row(1)["question"].upper() + "?")),
    "answer out of the same passage": (
        row(1),
        row(2, passages=row(1)["passages"], wanted=row(1)["wanted"]),
    ),
}


@pytest.mark.parametrize("what", list(PLANTED))
@pytest.mark.parametrize("sides", [("train", "valid"), ("train", "test"), ("valid", "test")])
def test_a_planted_leak_is_found_and_named(what: str, sides: tuple[str, str]) -> None:
    first, second = (read(each)[0] for each in PLANTED[what])
    others = read(*(row(n) for n in range(10, 40)))
    splits = {"train": others[:20], "valid": others[20:25], "test": others[25:]}
    assert find_leaks(splits, task=TASK) == []
    splits[sides[0]] = [*splits[sides[0]], first]
    splits[sides[1]] = [*splits[sides[1]], second]
    (leak,) = find_leaks(splits, task=TASK)
    assert leak.what == what
    assert f"{first.id!r} ({sides[0]}) and {second.id!r} ({sides[1]})" in leak.sentence()


def test_a_fixed_wording_is_no_shared_answer() -> None:
    wanted = row(1)["wanted"] | {"answer": WORDING.not_in_help_centre}
    one, other = read(row(1, wanted=wanted), row(2, wanted=wanted, passages=row(1)["passages"]))
    assert find_leaks({"train": [one], "test": [other]}, task=TASK) == []


def test_a_follow_up_is_compared_with_what_was_said_before() -> None:
    def said(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "text": text}, {"role": "assistant", "text": "Yes."}]

    one = row(1, question="and how long?", history=said("may I polish the brass lamp in the hall"))
    other = row(2, question="and how long?", history=said("is the swimming pool open on Sundays"))
    assert (
        find_leaks(
            dict(zip(("train", "test"), ([each] for each in read(one, other)), strict=True)), task=TASK
        )
        == []
    )


@pytest.mark.parametrize(
    "question", ["Borrow kettle", "kettle borrow", "borow kettle", "can I please borrow a kettle from you?"]
)
def test_a_row_that_asks_a_held_out_question_is_found(question: str) -> None:
    ((found, name, _),) = find_repeats(read(row(0, question=question), row(7)), {"gate/q1": "borrow kettle"})
    assert (found.id, name) == ("row-0000", "gate/q1")
