"""The page says what the result says, and the stand-ins are weak in the way that it tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench.illusion.bank import CORPUS, bank_questions
from bench.illusion.cases import CASES, Ground
from bench.illusion.page import PAGE, figures, with_figures
from bench.illusion.playing import Played, Tried
from bench.illusion.stage import INDEXES
from bench.illusion.stand_ins import MODELS
from bench.no_illusion import ALL, OUT, failures_of, json_of, main, playable, text_of, write
from serving.tone import check_tone
from serving.wording import load_wording
from tests.fakes.responder import AnswerKey, Responder

KEYS = [
    AnswerKey(
        question=f"How much is plan {number}?",
        facts=(("$9",), ("14 days",)),
        stale_values=(),
        status="answered",
        answer="The plan costs $9 a month. The trial lasts 14 days.",
        intent="billing",
        escalate=False,
        escalation_reason="none",
    )
    for number in range(100)
]
RIGHT = Tried(
    role="right",
    title="an index version",
    before=(40, 80),
    after=(60, 80),
    difference=0.25,
    interval=(0.15, 0.35),
    resolved=True,
)
PLAYED = Played(
    name="retrieval",
    title="Retrieval",
    ground="demo",
    looks_like="a weak model",
    expected="improved_rag",
    verdict="improved_rag",
    sentence="Improve RAG.",
    order=("Improve retrieval (now)",),
    missing=0,
    rules={"commonest label": "improved_rag", "most failures": "improved_rag"},
    questions=80,
    topics=20,
    labels={"wrong_retrieval": 38, "weak_reasoning": 2, "bad_format": 0},
    metric="answer_right",
    metric_title="all facts",
    higher_is_better=True,
    tried=(
        replace(RIGHT, role="wrong", after=(40, 80), difference=0.0, interval=(0.0, 0.0), resolved=False),
        RIGHT,
    ),
    right_over_wrong=replace(RIGHT, role="versus"),
    commands=("twinrail eval run",),
)


def answers(model: str, **body: Any) -> list[str]:
    answer: Callable[..., str] = MODELS[model].answer(Responder(KEYS, load_wording()))
    return [answer(body | {"messages": [{"role": "user", "content": shown(key)}]}) for key in KEYS]


def shown(key: AnswerKey) -> str:
    return f"<passages>\n[1] Plans\n{key.answer}\n</passages>\n\nQuestion: {key.question}"


# ---- models --------------------------------------------------------------------------------------


def test_a_grammar_holds_the_model_that_fences_its_json() -> None:
    free, held = answers("fencing"), answers("fencing", response_format={"type": "json_schema"})
    assert 25 < sum(text.startswith("```json") for text in free) < 55
    assert held == answers("sound")
    assert MODELS["fencing"].version("m").decoding.constrained is False
    assert MODELS["fencing-held"].version("m").decoding.constrained is True


def test_no_prompt_changes_the_tone() -> None:
    gushing = answers("gushing")
    assert gushing == answers("gushing-strong") == answers("gushing-ruled")
    assert 20 < sum(bool(check_tone(json.loads(text)["answer"])) for text in gushing) < 50
    prompts = {MODELS[name].version("m").prompt.system for name in MODELS if name.startswith("gushing")}
    assert len(prompts) == 3


def test_half_an_answer_says_nothing_of_its_last_fact() -> None:
    assert {json.loads(text)["answer"] for text in answers("halting")} == {"The plan costs $9 a month."}


# ---- cases ---------------------------------------------------------------------------------------


def test_every_verdict_that_matters_has_a_case_on_known_parts() -> None:
    assert {case.verdict for case in ALL} == {
        "improved_rag",
        "fine_tune",
        "hybrid",
        "prompt",
        "stronger_model",
        "not_enough_evidence",
    }
    assert {case.ground for case in ALL} == set(Ground)
    for case in CASES:
        fixes = [fix for fix in (case.wrong, case.halfway, case.right) if fix]
        for setting in (case.live, *(fix.then for fix in fixes)):
            assert setting.index in {"start", *INDEXES}, case.name
            assert setting.model in MODELS, case.name
        assert all(fix.then != case.live or fix.publish for fix in fixes), case.name
        assert case.wrong.then.world == case.live.world == case.right.then.world, case.name


@pytest.mark.skipif(not CORPUS.exists(), reason=f"{CORPUS} is not there")
def test_the_bank_has_one_right_answer_to_each_question() -> None:
    questions = bank_questions()
    texts = [each.question.text for each in questions]
    assert len(texts) == len(set(texts)) > 90
    assert all(each.question.facts[0].said_in(each.answer) for each in questions)
    assert all(each.question.gold for each in questions)


def test_a_case_without_its_data_is_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = playable(ALL, corpus=tmp_path / "corpus.jsonl")
    assert {case.name for case in ALL} - {case.name for case in kept} == {"bank"}
    assert capsys.readouterr().err.startswith("bank: left out, ")
    (tmp_path / "corpus.jsonl").touch()
    assert playable(ALL, corpus=tmp_path / "corpus.jsonl") == list(ALL)


# ---- figures -------------------------------------------------------------------------------------


def test_a_case_that_shows_something_else_is_told() -> None:
    assert failures_of([PLAYED]) == []
    lost = replace(RIGHT, difference=-0.25, interval=(-0.35, -0.15))
    assert failures_of([replace(PLAYED, verdict="prompt", tried=(PLAYED.tried[0], lost))]) == [
        "retrieval: advised prompt, not improved_rag",
        "retrieval: the right fix is not shown to help",
    ]
    fewer = replace(PLAYED, higher_is_better=False)
    assert len(failures_of([fewer])) == 2
    assert "EXPECTED improved_rag" in text_of(replace(PLAYED, verdict="prompt"))
    assert "40/80 -> 60/80, +25 points [+15, +35], better" in text_of(PLAYED)


def test_the_figures_are_those_of_the_result() -> None:
    result = {"cases": orjson.loads(orjson.dumps(json_of([PLAYED])))}
    shown_ = figures(result)
    assert "| retrieval | 80 | wrong_retrieval 38, weak_reasoning 2 | **improved_rag** |" in shown_
    assert "| 40 of 80 | 60 of 80 | +25 [+15, +35] | **better** |" in shown_
    assert "| 40 of 80 | 40 of 80 | +0 [+0, +0] | nothing |" in shown_
    page = PAGE.read_text(encoding="utf-8")
    assert shown_ in with_figures(page, result)
    assert with_figures(with_figures(page, result), json.loads(OUT.read_text(encoding="utf-8"))) == page
    with pytest.raises(ValueError, match="marks around the figures"):
        with_figures("no marks", result)


def test_a_result_keeps_what_was_not_played(tmp_path: Path) -> None:
    out = tmp_path / "results" / "no_illusion.json"
    other = replace(PLAYED, name="tuning")
    for found, at in (([PLAYED, other], "first"), ([PLAYED], "second"), ([other], "third")):
        write(found, out, machine={"at": at, "git": "abc"}, spent={"seconds": 1, "cpu_seconds": 1})
    result = json.loads(out.read_text(encoding="utf-8"))
    assert [session["at"] for session in result["sessions"]] == ["second", "third"]
    write([PLAYED, other], out, machine={"at": "fourth", "git": "abc"}, spent={})
    result = json.loads(out.read_text(encoding="utf-8"))
    assert [session["at"] for session in result["sessions"]] == ["fourth"]
    assert list(result["cases"]) == ["retrieval", "tuning"]


def test_the_page_tells_of_every_case_of_the_result() -> None:
    result = json.loads(OUT.read_text(encoding="utf-8"))
    page = PAGE.read_text(encoding="utf-8")
    assert list(result["cases"]) == [case.name for case in ALL]
    assert all(f"- **{case.name}**" in page for case in ALL)
    assert all(case["as_expected"] for case in result["cases"].values())


def test_the_cases_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [case.name for case in ALL]
