"""From questions to advice over real sockets: run, label, advise, and the report in the gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eval.cli import main
from eval.settings import EvalSettings
from tests.fakes.gateway_server import BASE, CUSTOMER_KEY, TUNED, CannedAnswer, FakeGateway
from tests.fakes.gateway_thread import Served
from tests.fakes.question_rows import RIGHT, write_questions

TEAM = """
team_size = "startup"
regulated = false
answers_a_month = 5000
{live}
[prices]
prompt_per_million = 0.6
completion_per_million = 2.4
[tried]
prompt_searches = ["search"]
constrained_decoding = true
"""


def base(question: str) -> CannedAnswer:
    """Every third draft breaks the schema, whatever the model is shown."""
    broken = int(question.split()[-1]) % 3 == 0
    return CannedAnswer(answer=RIGHT, draft="Sure! " + RIGHT if broken else None)


def tuned(question: str) -> CannedAnswer:
    return CannedAnswer(answer=RIGHT)


@pytest.fixture
def served() -> Iterator[Served]:
    server = Served(FakeGateway(answers={BASE: base, TUNED: tuned}))
    yield server
    server.close()


def search_prompts(tmp_path: Path, questions: Path, settings: EvalSettings) -> None:
    """Three more prompts for the model; none changes a word of what it writes."""
    grid = tmp_path / "grid.yaml"
    grid.write_text("name: desk\ninstructions: {a: Answer., b: Answer in JSON., c: Write JSON.}\n")
    asked = ["--grid", str(grid), "--questions", str(questions), "--arm", "rag_base", "--confirm", "0"]
    assert main(["prompts", str(tmp_path / "search"), *asked], settings=settings) == 0


def advise(served: Served, tmp_path: Path, *, each: int, live: str = "") -> tuple[int, dict[str, Any]]:
    """Run three arms, label them and advise; the exit code and the JSON."""
    settings = EvalSettings.model_validate(
        {
            "gateway_url": served.url,
            "api_key": CUSTOMER_KEY,
            "runs": tmp_path / "runs",
            "attempts": 3,
            "resamples": 300,
            "concurrency": 4,
            "min_questions": 10,
        }
    )
    questions, folder = write_questions(tmp_path / "questions", each=each), tmp_path / "run"
    team = tmp_path / "team.toml"
    team.write_text(TEAM.format(live=live), encoding="utf-8")
    search_prompts(tmp_path, questions, settings)
    asked = [
        "run",
        "--questions",
        str(questions),
        "--arms",
        "rag_base,oracle,rag_tuned",
        "--run",
        str(folder),
    ]
    assert main(asked, settings=settings) == 0
    assert main(["label", str(folder)], settings=settings) == 0
    code = main(["advise", str(folder), "--team", str(team), "--send"], settings=settings)
    return code, json.loads((folder / "advice.json").read_text(encoding="utf-8"))


def test_format_that_survives_the_gold_documents_is_to_be_trained(served: Served, tmp_path: Path) -> None:
    code, advice = advise(served, tmp_path, each=30)
    assert (code, advice["verdict"]) == (0, "fine_tune"), advice["sentence"]
    assert [(each["label"], each["share"]["k"]) for each in advice["diagnosed"]["labels"]] == [
        ("bad_format.schema", 40)
    ]
    assert advice["diagnosed"]["tuned"]["value"] == pytest.approx(40 / 120)
    arms = {arm["name"]: arm for arm in advice["arms"]}
    assert arms["rag_base"]["metrics"]["format compliance"]["k"] == 80
    costs = {arm["arm"]: arm for arm in advice["costs"]["arms"]}
    assert costs["rag_base"]["an_answer"] == pytest.approx((400 * 0.6 + 40 * 2.4) / 1e6)
    (eligible,) = advice["eligibility"]
    searched = next(each for each in eligible["conditions"] if each["name"] == "searched prompts")
    assert searched["evidence"] == (
        "4 searched on 12 questions (search), 3 needed; it fails under the best of them, current"
    )
    stored = served.gateway.reports["advice-run"]
    assert (stored["kind"], stored["content"]) == ("advice", advice)
    assert stored["page"]["type"] == "text/html"
    assert advice["sentence"] in stored["page"]["text"]


def test_three_questions_are_never_a_number(served: Served, tmp_path: Path) -> None:
    code, advice = advise(served, tmp_path, each=3)
    assert (code, advice["verdict"]) == (4, "not_enough_evidence")
    assert advice["power"]["missing"] == 40
    assert advice["order"] == []
