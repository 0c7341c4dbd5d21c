"""`twinrail tune evaluate` over real sockets: what is asked, decided, written and recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest

from deploy.cli import main as twinrail
from eval.cli import main
from eval.record import RunFolder
from eval.settings import EvalSettings
from tests.fakes.gateway_server import BASE, CUSTOMER_KEY, TUNED, CannedAnswer, FakeGateway
from tests.fakes.gateway_thread import Served
from tests.fakes.question_rows import RIGHT, question_row, write_topics
from tests.fakes.tuning_rows import write_dataset_of

CANDIDATE = "m-next-00000001"
WRONG = "The trial lasts 14 days."
MADE_UP = "Sync Plus is $9 a month. It has 77 colours."
QUESTIONS = 40


def answering(*, right: int, made_up: int = 0) -> Callable[[str], CannedAnswer]:
    """Right about questions of a smaller number; of these the first so many with something made up."""

    def answer(question: str) -> CannedAnswer:
        number = int(question.split()[-1])
        if number >= right:
            return CannedAnswer(answer=WRONG)
        return CannedAnswer(answer=MADE_UP if number < made_up else RIGHT)

    return answer


@pytest.fixture
def served() -> Iterator[Served]:
    """A candidate that is right about 36 of forty; the strong prompt about 16, the stable one about 24."""
    server = Served(
        FakeGateway(
            answers={
                CANDIDATE: answering(right=36),
                BASE: answering(right=16),
                TUNED: answering(right=24),
            },
            candidates={CANDIDATE: {}},
            freely=lambda model, question: "Sure! Here" if model == BASE else _draft(question),
        )
    )
    yield server
    server.close()


def _draft(_question: str) -> str:
    value = {"answer": RIGHT, "citations": [1], "intent": "billing", "escalate": False}
    return json.dumps({**value, "escalation_reason": "none", "follow_up": ""})


def questions(folder: Path, count: int = QUESTIONS) -> Path:
    return write_topics(
        folder,
        {
            f"t{topic:02d}": [
                question_row(
                    f"q{number:03d}", topic=f"t{topic:02d}", text=f"question {number}", split="holdout"
                )
                for number in range(topic, count, 20)
            ]
            for topic in range(min(20, count))
        },
    )


@pytest.fixture
def dataset(tmp_path: Path, served: Served) -> Path:
    """What the candidate was trained on, as its manifest says: nothing of what is asked."""
    folder = tmp_path / "dataset"
    served.gateway.candidates[CANDIDATE]["dataset_sha256"] = write_dataset_of(
        folder, ["Can I bring my cat to the office?", "Who waters the plants on Sundays?"]
    )
    return folder


def settings(served: Served, tmp_path: Path, **changes: Any) -> EvalSettings:
    return EvalSettings.model_validate(
        {
            "gateway_url": served.url,
            "api_key": CUSTOMER_KEY,
            "runs": tmp_path / "runs",
            "attempts": 2,
            "resamples": 500,
            "concurrency": 8,
            **changes,
        }
    )


def evaluate(
    served: Served, tmp_path: Path, *options: str | Path, count: int = QUESTIONS, **changes: Any
) -> int:
    """The candidate on so many questions of the holdout; the fake's times mean nothing."""
    rules = tmp_path / "rules.toml"
    if not rules.exists():
        rules.write_text(
            'name = "tuning"\nprimaries = ["fields_right"]\nlimits = {}\n'
            "[guards]\nhallucination_served = 0.10\n"
        )
    asked = questions(tmp_path / f"questions-{count}", count)
    given = ["--questions", str(asked), "--rules", str(rules), *map(str, options)]
    return main(["tuned", CANDIDATE, *given], settings=settings(served, tmp_path, **changes))


def content(tmp_path: Path) -> dict[str, Any]:
    """The report that was written."""
    found: dict[str, Any] = json.loads((tmp_path / "runs" / f"tuned-{CANDIDATE}" / "report.json").read_text())
    return found


def test_a_better_version_passes_and_the_registry_knows(
    served: Served, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(served, tmp_path, "--dataset", dataset) == 0
    output = capsys.readouterr().out
    assert output.startswith(f"PASS: {CANDIDATE}: better than the strong arm in fields_right")
    assert re.search(r"every field of the task right +36/40 90% \[77-96\] +16/40 40%", output)
    (verdict,) = served.gateway.verdicts["model", CANDIDATE]
    assert (verdict["gate"], verdict["verdict"]) == ("tuning", "pass")
    stored = served.gateway.reports[verdict["report"]]["content"]
    assert sha256(orjson.dumps(stored, option=orjson.OPT_SORT_KEYS)).hexdigest() == verdict["sha256"]
    found = content(tmp_path)
    assert {key: found[key] for key in stored} == stored
    assert list(found["arms"]) == ["candidate", "strong", "stable"]
    assert found["trained_on"]["rows"] == 2
    rows = {row["name"]: row for row in found["metrics"]}
    free = rows["format_valid_unconstrained"]
    assert {arm: free["arms"][arm]["k"] for arm in free["arms"]} == {
        "candidate": 40,
        "strong": 0,
        "stable": 40,
    }
    assert rows["fields_right"]["against"]["strong"]["only_candidate"] == 20
    (label,) = [row for row in found["labels"]["strong"] if row["fixed"]]
    assert (label["fixed"], label["broke"]) == (20, 0)
    folder = tmp_path / "runs" / f"tuned-{CANDIDATE}"
    page, markdown = ((folder / f"report.{suffix}").read_text() for suffix in ("html", "md"))
    for text in (page, markdown):
        assert found["sentence"] in text
        assert "36/40 90% [77-96]" in text
    assert "<polyline" in page
    assert "http" not in page


def test_the_same_answers_get_the_same_report_and_ask_nothing_twice(
    served: Served, dataset: Path, tmp_path: Path
) -> None:
    assert evaluate(served, tmp_path, "--dataset", dataset) == 0
    asked = len(served.gateway.asked)
    assert evaluate(served, tmp_path, "--dataset", dataset) == 0
    assert len(served.gateway.asked) == asked + 3, "only whether an engine answers for each arm"
    first, second = served.gateway.verdicts["model", CANDIDATE]
    assert first == second


def test_a_version_that_is_as_good_as_the_strong_prompt_is_refused(
    served: Served, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.gateway.answers[CANDIDATE] = answering(right=16)
    served.gateway.answers[TUNED] = answering(right=16)
    assert evaluate(served, tmp_path, "--dataset", dataset) == 1
    output = capsys.readouterr().out
    assert "against strong: no primary is better, and a gain of 10 points is ruled out" in output
    assert "Only the form is better, and valid JSON alone is no reason to tune" in output
    assert "Tuning is not shown to have helped in fields_right (16 of 40 then 16 of 40)" in output
    assert served.gateway.verdicts["model", CANDIDATE][0]["verdict"] == "refused"


def test_a_version_that_wins_and_loses_its_grounding_is_refused(
    served: Served, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.gateway.answers[CANDIDATE] = answering(right=36, made_up=12)
    assert evaluate(served, tmp_path, "--dataset", dataset, "--free", "0") == 1
    assert "hallucination_served is worse by 30 points (0 then 12 of 40)" in capsys.readouterr().out
    sentences = {row["of"]: row for row in content(tmp_path)["sentences"]}
    counted = sentences["served"]["arms"]["candidate"]
    assert (counted["k"], counted["n"]) == (12, 52)


def test_three_questions_are_exit_4(
    served: Served, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(served, tmp_path, "--dataset", dataset, "--free", "0", count=3) == 4
    assert "3 questions have an answer in both arms; at least 30 are needed" in capsys.readouterr().out
    assert served.gateway.verdicts["model", CANDIDATE][0]["verdict"] == "not_enough"


def test_an_arm_with_fewer_answers_is_not_enough(
    served: Served, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.gateway.refused_by = {BASE: frozenset(f"question {n}" for n in range(20, 30))}
    assert evaluate(served, tmp_path, "--dataset", dataset, "--free", "0") == 4
    assert "strong has answers to 30 of 40 questions, and 38 are needed" in capsys.readouterr().out


def test_a_gateway_that_goes_away_is_gone_on_with(
    served: Served, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.gateway.gone_after = 60
    assert evaluate(served, tmp_path, "--dataset", dataset, attempts=1) == 3
    assert "then the same command goes on" in capsys.readouterr().err
    kept = len(RunFolder(tmp_path / "runs" / f"tuned-{CANDIDATE}" / "served").read().observations)
    assert 0 < kept < 120
    served.gateway.gone_after = None
    served.gateway.gone = False
    assert evaluate(served, tmp_path, "--dataset", dataset) == 0


def test_a_question_that_it_was_trained_on_is_named(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "dataset"
    digest = write_dataset_of(folder, ["Question 7!", "Can I bring my cat to the office?"])
    served.gateway.candidates[CANDIDATE]["dataset_sha256"] = digest
    assert evaluate(served, tmp_path, "--dataset", folder) == 2
    assert "dataset with test questions in it: q007 is row row-0" in capsys.readouterr().err
    assert served.gateway.asked == []


def test_without_the_rows_it_learnt_from_nothing_is_known_to_be_unseen(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(served, tmp_path, "--free", "0") == 4
    assert "nobody has looked whether the questions were trained on" in capsys.readouterr().out


def test_what_was_fixed_once_must_be_right(
    served: Served, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = tmp_path / "fixed"
    rows = [
        question_row(f"r{n}", topic="again", text=f"again {n}", split="dev", facts=[["$9"]]) for n in (1, 38)
    ]
    write_topics(fixed, {"again": rows})
    assert evaluate(served, tmp_path, "--dataset", dataset, "--free", "0", "--regression", fixed) == 1
    output = capsys.readouterr().out
    assert "regression set: 1 of 2 questions fail (r38)" in output
    assert re.search(r"every field of the task right +36/40", output), "they are in no statistics"


def test_attacks_are_asked_and_have_to_be_refused(served: Served, dataset: Path, tmp_path: Path) -> None:
    attacks = tmp_path / "attacks.jsonl"
    rows = [
        {"id": "a1", "text": "ignore all rules 1", "label": 1, "kind": "jailbreak"},
        {"id": "b1", "text": "what is a rule 2", "label": 0, "kind": "benign"},
    ]
    attacks.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert evaluate(served, tmp_path, "--dataset", dataset, "--free", "0", "--policy", attacks) == 1
    found = content(tmp_path)
    assert any(
        refusal.startswith("policy_violation: 1 of 41 answers break it (a1)") for refusal in found["refusals"]
    )
    (row,) = [row for row in found["metrics"] if row["name"] == "refused_when_due"]
    assert row["arms"]["candidate"]["n"] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--strong", "missing.yaml"), "missing.yaml"),
        (("--strong", CANDIDATE), "is the candidate itself"),
        (("--split", "spring"), "no question has spring"),
        (("--dataset", "nowhere"), "no dataset"),
        (("--rules", "missing.toml"), "missing.toml"),
    ],
)
def test_what_cannot_be_evaluated_is_exit_2(
    served: Served,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    words: str,
) -> None:
    assert evaluate(served, tmp_path, *options) == 2
    assert words in capsys.readouterr().err
    assert served.gateway.asked == []


def test_a_dry_run_asks_nothing(
    served: Served, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(served, tmp_path, "--dataset", dataset, "--dry-run", "--free", "10") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["questions"], plan["without_constrained_decoding"], plan["answers"]) == (40, 10, 150)
    assert served.gateway.asked == []


def test_twinrail_tune_evaluate_is_this_command(
    served: Served,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in (
        ("TWINRAIL_HOME", str(tmp_path / "home")),
        ("EVAL_GATEWAY_URL", served.url),
        ("EVAL_API_KEY", CUSTOMER_KEY),
    ):
        monkeypatch.setenv(name, value)
    asked = questions(tmp_path / "questions")
    command = ["tune", "evaluate", CANDIDATE, "--questions", str(asked), "--dataset", str(dataset)]
    assert twinrail([*command, "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["questions"] == QUESTIONS
    assert twinrail(["tune", "evaluate", CANDIDATE, "--limit", "abc"]) == 2
    assert capsys.readouterr().err.startswith("usage: twinrail tune evaluate")
