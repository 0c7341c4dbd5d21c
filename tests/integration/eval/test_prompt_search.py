"""`twinrail eval prompts` over real sockets: what is asked, what is dropped, what comes of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from eval.cli import main
from eval.prompts.grid import CURRENT
from eval.prompts.record import SearchFolder
from eval.record import RunFolder
from eval.settings import EvalSettings
from serving.prompting import load_prompt
from tests.fakes.gateway_server import BASE, CUSTOMER_KEY, TUNED, CannedAnswer, FakeGateway
from tests.fakes.gateway_thread import Served
from tests.fakes.question_rows import RIGHT, write_questions

WRONG = "Sync Plus is $77 a month."
GRID = """
name: desk
instructions: {{a: Answer., b: Answer well., c: Answer best., d: Guess., e: Joke., f: {last}}}
"""


def number_of(question: str) -> int:
    return int(question.split()[-1])


def base(question: str) -> CannedAnswer:
    """Right on every other question with the prompt that it has."""
    return CannedAnswer(answer=RIGHT if number_of(question) % 2 else WRONG)


def prompted(prompt: str, question: str) -> CannedAnswer:
    """`c` is always right, `a` and `b` on three of four, the others never."""
    instruction = prompt.removeprefix("desk_").removesuffix("-none")
    right = {"c": True, "a": number_of(question) % 4 != 0, "b": number_of(question) % 4 != 1}
    return CannedAnswer(answer=RIGHT if right.get(instruction, False) else WRONG)


@pytest.fixture
def served() -> Iterator[Served]:
    server = Served(FakeGateway(answers={BASE: base, TUNED: base}, prompted=prompted))
    yield server
    server.close()


@pytest.fixture
def settings(served: Served) -> EvalSettings:
    return EvalSettings.model_validate(
        {
            "gateway_url": served.url,
            "api_key": CUSTOMER_KEY,
            "attempts": 2,
            "resamples": 300,
            "concurrency": 4,
            "min_questions": 16,
        }
    )


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return write_questions(
        tmp_path / "questions", each=10, given=lambda n: {"split": "holdout" if n == 9 else "dev"}
    )


def command(tmp_path: Path, questions: Path, *more: str, last: str = "Last.") -> list[str]:
    grid = tmp_path / "grid.yaml"
    grid.write_text(GRID.format(last=last), encoding="utf-8")
    start = ["prompts", str(tmp_path / "search"), "--grid", str(grid), "--questions", str(questions)]
    return [*start, "--first", "8", "--confirm", "12", *more]


def asked(served: Served) -> Counter[str]:
    """Answers by prompt."""
    bodies = [body for _, path, body in served.gateway.requests if path == "/v1/answers"]
    return Counter(body["pin"].get("prompt", {"name": CURRENT})["name"] for body in bodies)


def test_bad_prompts_are_dropped_early_and_the_best_is_confirmed_on_fresh_questions(
    served: Served,
    settings: EvalSettings,
    tmp_path: Path,
    questions: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command(tmp_path, questions), settings=settings) == 0
    out, err = capsys.readouterr()
    assert asked(served) == {
        CURRENT: 8 + 8 + 12,
        "desk_c-none": 8 + 8 + 12,
        **{f"desk_{name}-none": 16 for name in "ab"},
        **{f"desk_{name}-none": 8 for name in "def"},
    }
    assert "7 prompts were tried in prompt_only" in out
    assert "the best on 16 questions is c-none" in out
    assert "On questions that took no part in the choice: c-none is better than current" in out
    assert "round 2: 3 prompts and current on 8 questions more; 56 answers to go at most" in err

    folder = SearchFolder(tmp_path / "search")
    record = folder.read()
    assert record.complete
    assert [len(each.standings) for each in record.rounds] == [7, 4]
    assert record.arm.pin.model == BASE
    best = load_prompt(folder.path / "best.yaml")
    assert best == record.candidate("c-none").prompt
    splits = {
        case.split
        for run in (folder.round(1), folder.round(2), folder.confirmation())
        for case in run.read().cases
    }
    assert splits == {"dev"}
    confirmed = {case.id for case in folder.confirmation().read().cases}
    chosen = {case.id for n in (1, 2) for case in folder.round(n).read().cases}
    assert len(confirmed) == 12
    assert not confirmed & chosen
    assert "Keep it: twinrail model register" in (folder.path / "search.md").read_text()


def test_the_best_prompt_is_an_arm_of_a_run_and_of_rag_too(
    served: Served, settings: EvalSettings, tmp_path: Path, questions: Path
) -> None:
    assert main(command(tmp_path, questions, "--arm", "rag_base"), settings=settings) == 0
    best, run = tmp_path / "search" / "best.yaml", tmp_path / "run"
    arms = ["--arms", "rag_base", "--arm", f"searched=model:fallback,prompt:{best}"]
    main(["run", "--questions", str(questions), "--run", str(run), *arms], settings=settings)
    record = RunFolder(run).read().record
    searched = record.arms[1]
    assert (searched.kind, searched.pin.prompt) == ("rag", load_prompt(best))
    assert searched.pin.knowledge == record.arms[0].pin.knowledge
    assert record.prompts == {BASE: "0" * 64}
    report = json.loads((run / "report.json").read_text())
    rates = {name: arm["metrics"]["answer_right"]["k"] for name, arm in report["arms"].items()}
    assert rates == {"rag_base": 16, "searched": 36}


def test_an_interrupted_search_goes_on_where_it_stopped(
    served: Served,
    settings: EvalSettings,
    tmp_path: Path,
    questions: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers = served.gateway.answers[BASE]

    def going(question: str) -> CannedAnswer:
        served.gateway.gone = len(served.gateway.turns) > 70
        return answers(question)

    served.gateway.answers[BASE] = going
    assert main(command(tmp_path, questions), settings=settings) == 3
    assert "then the same command goes on" in capsys.readouterr().err
    stopped = SearchFolder(tmp_path / "search").read()
    assert (len(stopped.rounds), stopped.complete) == (1, False)

    served.gateway.gone = False
    served.gateway.answers[BASE] = answers
    assert main(["prompts", str(tmp_path / "search")], settings=settings) == 0
    assert SearchFolder(tmp_path / "search").read().best == "c-none"
    answered = {
        (seen.case_id, seen.arm)
        for n in (1, 2)
        for seen in SearchFolder(tmp_path / "search").round(n).read().observations.values()
    }
    assert len(answered) == 7 * 8 + 4 * 8

    done = len(served.gateway.requests)
    assert main(["prompts", str(tmp_path / "search")], settings=settings) == 0
    again = served.gateway.requests[done:]
    assert [path for _, path, _ in again if path == "/v1/answers"] == [], "nothing is asked twice"

    changed = command(tmp_path, questions, last="Another.")
    assert main(changed, settings=settings) == 2
    assert "was begun with another grid_sha256; leave out --grid" in capsys.readouterr().err


def test_the_current_prompt_stays_where_none_is_better(
    served: Served,
    settings: EvalSettings,
    tmp_path: Path,
    questions: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    served.gateway.prompted = lambda prompt, question: CannedAnswer(answer=WRONG)
    assert main(command(tmp_path, questions), settings=settings) == 0
    assert "The prompt that the model version has is not beaten: keep it." in capsys.readouterr().out
    assert not (tmp_path / "search" / "best.yaml").exists()
    assert SearchFolder(tmp_path / "search").read().best == CURRENT


def test_a_best_prompt_that_is_worse_on_fresh_questions_is_not_to_be_kept(
    served: Served,
    settings: EvalSettings,
    tmp_path: Path,
    questions: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: set[str] = set()

    def lucky(prompt: str, question: str) -> CannedAnswer:
        if not prompt.startswith("desk_c"):
            return CannedAnswer(answer=WRONG)
        seen.add(question)
        return CannedAnswer(answer=RIGHT if len(seen) <= 16 else WRONG)

    served.gateway.prompted = lucky
    assert main(command(tmp_path, questions), settings=settings) == 0
    confirmed = SearchFolder(tmp_path / "search").read().confirmed
    assert confirmed is not None
    assert confirmed.difference is not None
    assert confirmed.difference < 0
    out = capsys.readouterr().out
    assert "It came out worse there than the current prompt: keep that one" in out
    assert "Keep it:" not in out


def test_of_a_metric_of_mistakes_fewer_is_more_right(
    served: Served,
    settings: EvalSettings,
    tmp_path: Path,
    questions: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command(tmp_path, questions, "--objective", "would_be_corrected"), settings=settings) == 0
    record = SearchFolder(tmp_path / "search").read()
    confirmed = record.confirmed
    assert record.best == "c-none"
    assert confirmed is not None
    assert (confirmed.best.right, confirmed.best.scored) == (12, 12)
    gain = (confirmed.best.right - confirmed.current.right) / 12
    assert confirmed.difference == pytest.approx(gain)
    assert confirmed.low is not None
    assert confirmed.high is not None
    assert confirmed.low <= gain <= confirmed.high
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    told = [line[1] for line in lines if line[:1] == ["c-none"]]
    assert told[-1] == "0/12", "the title says mistakes, so mistakes are counted"


def test_few_questions_are_said_to_be_too_few(
    settings: EvalSettings, tmp_path: Path, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = command(tmp_path, questions)
    few[few.index("--first") + 1] = "4"
    assert main(few, settings=settings) == 4
    assert "chosen on 8 questions, fewer than 16" in capsys.readouterr().err


def test_a_prompt_that_no_answer_comes_of_is_dropped_and_all_such_are_an_error(
    served: Served,
    settings: EvalSettings,
    tmp_path: Path,
    questions: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    served.gateway.refused = frozenset(
        f"{topic} question {n}" for topic in ("plans", "prices", "trials", "limits") for n in range(10)
    )
    assert main(command(tmp_path, questions), settings=settings) == 2
    assert "no prompt has an answer with a score (8 of 8 answers have no score" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--split", "holdout"], "invalid choice"),
        (["--arm", "searched"], "no arm is called 'searched'"),
        (["--confirm", "-1"], "--confirm: -1 is no number"),
    ],
)
def test_bad_usage_is_refused(
    settings: EvalSettings,
    tmp_path: Path,
    questions: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    words: str,
) -> None:
    assert main(command(tmp_path, questions, *more), settings=settings) == 2
    assert words in capsys.readouterr().err


def test_a_set_without_a_dev_split_is_refused(
    settings: EvalSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked_of = tmp_path / "asked.jsonl"
    asked_of.write_text(json.dumps({"id": "1", "text": "how much?", "gold": ["plus"]}) + "\n")
    assert main(command(tmp_path, asked_of), settings=settings) == 2
    assert "questions of the split 'all'" in capsys.readouterr().err


def test_a_dry_run_asks_nothing(
    served: Served,
    settings: EvalSettings,
    tmp_path: Path,
    questions: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command(tmp_path, questions, "--prompts", "4", "--dry-run"), settings=settings) == 0
    plan = json.loads(capsys.readouterr().out)
    assert len(plan["prompts"]) == 5
    assert plan["rounds"] == [{"prompts": 5, "questions": 8}, {"prompts": 3, "questions": 16}]
    assert plan["answers_at_most"] == 5 * 8 + 3 * 8 + 2 * 12
    assert asked(served) == {}
    assert not (tmp_path / "search").exists()
