"""Re-runs: which are there, what they say, what they settle, and which are still to be asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.arms import GOLD_CONTEXT, Arm, Pin
from eval.errors import RunError, StorageError
from eval.labelling.checks import check
from eval.labelling.counterfactuals import (
    Rerun,
    RerunFile,
    Reruns,
    gold_arm,
    rerun_checks,
    settle,
    wanted_reruns,
)
from eval.labelling.labels import Check
from eval.labelling.moments import Moment, as_of_arm
from eval.observations import Observation
from serving.prompting import PromptTemplate
from tests.unit.eval.labelling.turns import CASE, OTHERS, RAG, SCORING, SEEN, TEXT, corpus, history

TUNED, BASE = "m-a-1", "m-b-1"
ORACLE = Arm(name="oracle", pin=Pin(knowledge="k-a-1@7", model=BASE, context=GOLD_CONTEXT), stated="oracle")
RAG_BASE = Arm(name="rag_base", pin=Pin(knowledge="k-a-1@7", model=BASE), stated="rag")
OTHER_INDEX = Arm(name="rag_improved", pin=Pin(knowledge="k-b-2@7", model=TUNED), stated="rag_plus")
PROMPT = PromptTemplate(name="searched", system="Answer from the passages alone.", shots=())
WRONG = {"answer": "I have no idea.", "citations": ()}


def answers(*given: tuple[Arm, dict[str, Any]]) -> Reruns:
    arms = {arm.name: arm for arm, _ in given} | {RAG.name: RAG}
    seen: dict[tuple[str, str], Observation] = {
        (CASE.id, arm.name): replace(SEEN, arm=arm.name, model_version=arm.pin.model or "", **fields)
        for arm, fields in given
    }
    return Reruns(arms=arms, seen=seen)


def checks_of(reruns: Reruns) -> dict[str, Check]:
    found = rerun_checks(CASE, RAG, reruns, scoring=SCORING, corpus=corpus(history(TEXT)))
    return {each.name: each for each in found}


def test_nobody_asked_again_so_there_is_no_check() -> None:
    assert checks_of(answers()) == {}
    assert checks_of(answers((ORACLE, {"error": "504"}))) == {}


def test_each_arm_that_differs_in_one_thing_is_a_rerun() -> None:
    found = checks_of(answers((ORACLE, {}), (RAG_BASE, WRONG), (OTHER_INDEX, {})))
    assert {name: each.value for name, each in found.items()} == {
        "right_with_gold": True,
        "right_with_other_index": True,
        "right_with_other_model": False,
    }
    assert "whose model is m-b-1" in found["right_with_gold"].detail, "another model's word is told as such"


def test_the_same_model_with_gold_documents_counts_before_another() -> None:
    own = gold_arm(RAG)
    found = checks_of(answers((ORACLE, {}), (own, WRONG)))
    assert found["right_with_gold"].value is False
    assert "rag_tuned+gold" in found["right_with_gold"].detail


def test_another_prompt_is_one_thing_more() -> None:
    """What the gold documents, or another moment, repair under another prompt may be the prompt's doing."""
    prompted = replace(RAG, name="searched", pin=replace(RAG.pin, prompt=PROMPT))
    past = replace(as_of_arm(prompted, Moment(snapshot=3)), name="searched_then")
    assert "right_as_of" not in checks_of(answers((past, {})))
    golden = gold_arm(prompted)
    other = checks_of(answers((golden, {})))["right_with_gold"]
    assert other.detail == "right in searched+gold, whose prompt is another one"
    both = checks_of(answers((gold_arm(RAG), WRONG), (replace(golden, name="a_gold"), {})))
    assert both["right_with_gold"].value is False, "its own prompt counts first"
    wanted = wanted_reruns(CASE, RAG, answers((golden, {})), models={}, moment=None)
    assert [arm.name for arm in wanted] == ["rag_tuned+gold"]


def test_gold_documents_that_did_not_fit_say_nothing() -> None:
    assert checks_of(answers((ORACLE, {**WRONG, "packed": OTHERS})))["right_with_gold"].value is None


def context(
    value: bool | None, *reruns: tuple[str, bool | None], known: bool | None = True
) -> dict[str, Check]:
    given: Iterable[tuple[str, bool | None]] = (
        ("known", known),
        ("current", known),
        ("in_context", value),
        *reruns,
    )
    return {each.name: each for each in settle([check(name, says, f"by {name}") for name, says in given])}


@pytest.mark.parametrize(
    ("reruns", "enough"),
    [
        ((), None),
        ((("right_with_other_model", True), ("right_with_gold", True)), True),
        ((("right_with_other_model", False), ("right_with_gold", True)), False),
        ((("right_with_gold", None), ("right_with_other_index", True)), False),
        ((("right_with_gold", False),), True),
        ((("right_with_gold", None),), None),
    ],
)
def test_what_repairs_the_answer_says_what_was_lacking(
    reruns: tuple[tuple[str, bool | None], ...], enough: bool | None
) -> None:
    assert context(None, *reruns)["enough"].value is enough


@pytest.mark.parametrize("value", [True, False])
def test_what_stood_in_the_prompt_is_not_overruled(value: bool) -> None:
    settled = context(value, ("right_with_other_model", not value), ("right_with_gold", not value))
    assert settled["enough"].value is value


def test_articles_that_an_answer_was_right_from_are_there() -> None:
    settled = context(None, ("right_with_gold", True), known=None)
    assert (settled["known"].value, settled["known"].detail) == (True, "by right_with_gold")
    assert context(None, ("right_with_gold", None), known=None)["known"].value is None


def test_only_what_is_missing_is_asked() -> None:
    def wanted(*given: tuple[Arm, dict[str, Any]]) -> list[str]:
        return [
            arm.name
            for arm in wanted_reruns(CASE, RAG, answers(*given), models={"fallback": BASE}, moment=None)
        ]

    assert wanted() == ["rag_tuned+gold", "rag_tuned+fallback"]
    assert wanted((ORACLE, {}), (RAG_BASE, {})) == ["rag_tuned+gold"], (
        "an oracle of another model is no re-run"
    )
    assert wanted((gold_arm(RAG), {}), (RAG_BASE, {})) == []
    without_gold = replace(CASE, gold=())
    base = {"fallback": BASE}
    assert list(wanted_reruns(without_gold, RAG, answers((RAG_BASE, {})), models=base, moment=None)) == []
    assert list(wanted_reruns(CASE, ORACLE, answers(), models=base, moment=Moment(snapshot=3))) == []


def test_another_model_is_asked_once_whatever_word_names_it() -> None:
    def wanted(**models: str) -> dict[str, str | None]:
        asked = answers((gold_arm(RAG), {}))
        found = wanted_reruns(CASE, RAG, asked, models=models, moment=None)
        return {arm.name: arm.pin.model for arm in found}

    assert wanted(fallback=BASE, previous="m-a-0") == {
        "rag_tuned+fallback": BASE,
        "rag_tuned+previous": "m-a-0",
    }
    assert wanted(fallback=BASE, previous=BASE) == {"rag_tuned+fallback": BASE}
    assert wanted(fallback=TUNED, previous=TUNED) == {}, "its own model is no other one"


def test_the_same_index_as_of_another_moment_is_no_other_index() -> None:
    past = as_of_arm(RAG, Moment(snapshot=3))
    dated = as_of_arm(RAG, Moment(snapshot=7, day="2026-03-01"))
    assert (past.name, past.pin.knowledge, past.pin.effective_on) == ("rag_tuned+as_of@3", "k-a-1@3", None)
    assert dated.name == "rag_tuned+as_of@7:2026-03-01"
    assert dated.pin.as_body()["effective_on"] == "2026-03-01"
    found = checks_of(answers((past, {}), (OTHER_INDEX, WRONG)))
    assert {name: each.value for name, each in found.items()} == {
        "right_as_of": True,
        "right_with_other_index": False,
    }
    assert checks_of(answers((dated, WRONG)))["right_as_of"].value is False
    behind = replace(RAG, name="behind", pin=replace(RAG.pin, knowledge="k-a-1@3"))
    found = {
        each.name: each.value
        for each in rerun_checks(
            CASE, behind, answers((RAG, {})), scoring=SCORING, corpus=corpus(history(TEXT))
        )
    }
    assert found == {"right_as_of_live": True}, "snapshot 7 is the live one"


def test_a_moment_is_asked_once() -> None:
    moment = Moment(snapshot=3)
    given: list[tuple[Arm, dict[str, Any]]] = [(gold_arm(RAG), {})]
    wanted = list(wanted_reruns(CASE, RAG, answers(*given), models={}, moment=moment))
    assert wanted == [as_of_arm(RAG, moment)]
    asked = answers(*given, (wanted[0], WRONG))
    assert list(wanted_reruns(CASE, RAG, asked, models={}, moment=moment)) == []


def test_right_only_as_of_another_moment_was_not_there_at_its_own() -> None:
    settled = context(None, ("right_as_of", True), known=None)
    assert (settled["known"].value, settled["current"].value, settled["enough"].value) == (True, False, False)
    assert context(None, ("right_as_of", False), known=None)["current"].value is None
    now = context(None, ("right_as_of_live", True), ("live_now", None), known=None)
    assert [now[name].value for name in ("known", "current", "live_now")] == [True, False, True]
    gone = context(None, ("right_as_of", True), ("live_now", None), known=None)
    assert [gone[name].value for name in ("known", "current", "live_now")] == [True, False, False]
    told = context(False, ("right_as_of", True), known=False)
    assert told["current"].value is False, "what the texts say is not overruled"


def test_reruns_are_kept_and_the_last_of_two_counts(tmp_path: Path) -> None:
    file = RerunFile(tmp_path)
    assert file.read() == []
    first = Rerun(arm=gold_arm(RAG), seen=replace(SEEN, arm="rag_tuned+gold", error="504"))
    second = replace(first, seen=replace(first.seen, error=""))
    for rerun in (first, second):
        file.add(rerun)
    assert file.read() == [second]
    path = tmp_path / "reruns.jsonl"
    path.write_bytes(path.read_bytes() + b'{"arm": ')
    assert file.read() == [second], "a line that was cut off is asked for again"
    other = replace(first, seen=replace(first.seen, case_id="plans-02"))
    file.add(other)
    assert file.read() == [second, other], "and swallows none that comes after it"
    path.write_text('{"arm": {"name": "x"}}\n')
    with pytest.raises(RunError, match=r"reruns.jsonl:1"):
        file.read()
    with pytest.raises(StorageError, match=r"gone.reruns.jsonl: No such file"):
        RerunFile(tmp_path / "gone").add(first)
