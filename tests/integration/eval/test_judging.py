"""`twinrail eval judge` on a fake endpoint: verdicts, nonsense, faults, calibration and what is shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from eval.cli import main
from eval.judging.judged import JudgedArm, JudgedRun, read_judged
from eval.labelling.labels import Finding, Label, LabelRecord, Outcome
from eval.labelling.records import LabelFile
from eval.settings import EvalSettings
from tests.fakes.gateway_server import CUSTOMER_KEY, CannedAnswer, FakeGateway
from tests.fakes.gateway_thread import Served, ServedApp
from tests.fakes.vllm_server import FakeVllm
from tests.unit.eval.judging.runs import judge_file, small_run

MODEL = "m-judge"
RIGHT, WRONG = "Plus is $9.", "Plus is $7."


def verdict(value: str) -> str:
    return json.dumps({"reason": "as it says", "verdict": value})


def shown(body: Mapping[str, Any]) -> dict[str, Any]:
    """The evidence of a request."""
    found: dict[str, Any] = orjson.loads(body["messages"][1]["content"])
    return found


def by_words(body: Mapping[str, Any]) -> str:
    """A judge that is right, but for answers that end in "(hard)": of those it says the contrary."""
    answer = shown(body)["answer"]
    return verdict("yes" if ("$9" in answer) != answer.endswith("(hard)") else "no")


class Endpoint:
    """A fake endpoint whose judge can be changed."""

    def __init__(self) -> None:
        self.fake = FakeVllm(models={})
        self.says(by_words)
        self.served = ServedApp(self.fake.app())

    def says(self, answer: str | Callable[[Mapping[str, Any]], str], **more: Any) -> None:
        self.fake.program(MODEL, answer=answer, status=200, **more)

    @property
    def asked(self) -> int:
        return len(self.fake.requests)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    served = Endpoint()
    yield served
    served.served.close()


@pytest.fixture
def settings(endpoint: Endpoint) -> EvalSettings:
    return EvalSettings.model_validate(
        {
            "judge_url": f"{endpoint.served.url}/v1",
            "judge_model": MODEL,
            "judge_key": "secret",
            "attempts": 1,
            "timeout_s": 20,
            "concurrency": 4,
        }
    )


def answers(n: int, *, right: int) -> list[str]:
    return [f"{RIGHT if i < right else WRONG} {i}" for i in range(n)]


def people(folder: Path, *, hard: int = 4, each: int = 40) -> Path:
    """Labels of people; on `hard` of each kind the judge is wrong."""
    path = folder / "people.jsonl"
    rows = [
        {
            "question": "price?",
            "contexts": ["Plus is $9."],
            "answer": f"{text} {i}{' (hard)' if i < hard else ''}",
            "label": label,
        }
        for text, label in ((RIGHT, "grounded"), (WRONG, "ungrounded"))
        for i in range(each)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def calibrate(settings: EvalSettings, folder: Path, labels: Path) -> int:
    arguments = ["judge", "calibrate", "--judge", str(judge_file(folder)), "--labels", str(labels)]
    return main(arguments, settings=settings)


def judge(settings: EvalSettings, folder: Path, *more: str) -> int:
    return main(["judge", str(folder / "run"), "--judge", str(judge_file(folder)), *more], settings=settings)


def judged(folder: Path) -> JudgedRun:
    (found,) = read_judged(folder / "run")
    return found


def the_arm(folder: Path) -> JudgedArm:
    found = judged(folder).arm("rag")
    assert found is not None
    return found


def test_a_calibrated_judge_gives_a_corrected_share(
    settings: EvalSettings, endpoint: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate(settings, tmp_path, people(tmp_path)) == 0
    assert "calls 36 good" in capsys.readouterr().out
    small_run(tmp_path / "run", {"rag": answers(100, right=80), "tuned": answers(100, right=30)})
    assert judge(settings, tmp_path) == 0
    said = judged(tmp_path)
    assert said.version.startswith("j-supported-")
    shares = {arm.arm: arm for arm in said.arms}
    # It is never wrong on these, and its measured error says that so many yeses come of more good answers.
    assert shares["rag"].value == pytest.approx((0.80 - 0.1) / 0.8)
    assert shares["tuned"].value == pytest.approx((0.30 - 0.1) / 0.8)
    interval = shares["rag"].interval
    assert interval is not None
    assert interval.low < 0.80 < interval.high
    out = capsys.readouterr().out
    assert "88% [" in out
    assert said.version in out
    assert "80%" not in out
    report = (tmp_path / "run" / "report.md").read_text()
    assert f"supported ({said.version})" in report
    assert "says yes to 36 of 40 answers that people call good" in report


def test_the_report_of_the_run_shows_it_and_loses_nothing(
    settings: EvalSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibrate(settings, tmp_path, people(tmp_path))
    small_run(tmp_path / "run", {"rag": answers(50, right=30)})
    judge(settings, tmp_path)
    (tmp_path / "run" / "report.md").unlink()
    capsys.readouterr()
    assert main(["score", str(tmp_path / "run")], settings=settings) == 0
    assert judged(tmp_path).version in capsys.readouterr().out
    assert "Judged good" in (tmp_path / "run" / "report.md").read_text()
    plain = json.loads((tmp_path / "run" / "report.json").read_text())
    assert plain["judged"]["supported"]["arms"][0]["value"] == pytest.approx((0.6 - 0.1) / 0.8)


def test_asked_once_and_greedily_with_schema_and_key(
    settings: EvalSettings, endpoint: Endpoint, tmp_path: Path
) -> None:
    small_run(tmp_path / "run", {"rag": answers(3, right=2)})
    judge(settings, tmp_path)
    assert endpoint.asked == 3
    body = endpoint.fake.requests[0]
    assert body["temperature"] == 0
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["reason", "verdict"]
    assert endpoint.fake.headers[0]["Authorization"] == "Bearer secret"
    judge(settings, tmp_path)
    assert endpoint.asked == 3


def test_without_calibration_there_is_no_share(
    settings: EvalSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_run(tmp_path / "run", {"rag": answers(50, right=40)})
    assert judge(settings, tmp_path) == 4
    assert the_arm(tmp_path).value is None
    assert the_arm(tmp_path).why_none.startswith("not calibrated")
    out = capsys.readouterr().out
    assert "80" not in out
    assert "not calibrated" in out


def test_an_old_calibration_does_not_count_for_a_changed_judge(
    settings: EvalSettings, tmp_path: Path
) -> None:
    calibrate(settings, tmp_path, people(tmp_path))
    small_run(tmp_path / "run", {"rag": answers(50, right=40)})
    file = judge_file(tmp_path, 'name = "supported"\nprompt = "supported"\nmax_tokens = 300\n')
    assert main(["judge", str(tmp_path / "run"), "--judge", str(file)], settings=settings) == 4
    assert "something that decides has changed since" in the_arm(tmp_path).why_none
    # As it was, it still does.
    assert judge(settings, tmp_path) == 0


def test_a_name_that_came_to_mean_another_model_is_noticed(
    settings: EvalSettings, endpoint: Endpoint, tmp_path: Path
) -> None:
    calibrate(settings, tmp_path, people(tmp_path))
    file = tmp_path / "judge.calibration.json"
    file.write_text(file.read_text().replace(f'"{MODEL}"', '"m-judge-of-march"'))
    small_run(tmp_path / "run", {"rag": answers(50, right=40)})
    assert judge(settings, tmp_path) == 4
    assert "measured as m-judge-of-march" in the_arm(tmp_path).why_none


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("I think so, yes!", "nonsense: not JSON"),
        ('{"reason": "fine", "verdict": "perhaps"}', "nonsense: not the wanted fields"),
        ('{"verdict": "yes"}', "nonsense: not the wanted fields"),
        ('["yes"]', "nonsense: not the wanted fields"),
        ("", "wrote nothing"),
    ],
)
def test_nonsense_is_missing_and_neither_yes_nor_no(
    settings: EvalSettings, endpoint: Endpoint, tmp_path: Path, text: str, why: str
) -> None:
    calibrate(settings, tmp_path, people(tmp_path))

    def sometimes(body: Mapping[str, Any]) -> str:
        return text if shown(body)["answer"].endswith(" 7") else by_words(body)

    endpoint.says(sometimes)
    small_run(tmp_path / "run", {"rag": answers(50, right=25)})
    assert judge(settings, tmp_path) == 0
    arm = the_arm(tmp_path)
    assert (arm.judged, dict(arm.missing)) == (49, {why: 1})
    assert arm.value == pytest.approx((24 / 49 - 0.1) / 0.8)


def test_a_verdict_that_was_cut_off_is_missing_though_it_can_be_read(
    settings: EvalSettings, endpoint: Endpoint, tmp_path: Path
) -> None:
    small_run(tmp_path / "run", {"rag": answers(3, right=2)})
    endpoint.says(by_words, finish_reason="length")
    judge(settings, tmp_path)
    assert dict(the_arm(tmp_path).missing) == {"cut off at max_tokens": 3}


def test_a_judge_that_answers_nonsense_is_refused_and_not_asked_on(
    settings: EvalSettings, endpoint: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibrate(settings, tmp_path, people(tmp_path))
    before = endpoint.asked
    endpoint.says("Certainly! Here is my view.")
    small_run(tmp_path / "run", {"rag": answers(100, right=80)})
    assert judge(settings, tmp_path) == 4
    assert endpoint.asked - before == 20
    assert the_arm(tmp_path).why_none.startswith("judge refused: no verdict on 100 of 100")
    assert "judge refused" in capsys.readouterr().out


def test_too_much_nonsense_is_refused_even_if_most_is_fine(
    settings: EvalSettings, endpoint: Endpoint, tmp_path: Path
) -> None:
    calibrate(settings, tmp_path, people(tmp_path))
    endpoint.says(lambda body: "hm" if shown(body)["answer"].endswith(("1", "2")) else by_words(body))
    small_run(tmp_path / "run", {"rag": answers(100, right=80)})
    assert judge(settings, tmp_path) == 4
    assert the_arm(tmp_path).why_none.startswith("judge refused: no verdict on 20 of 100")


def test_nonsense_on_labelled_answers_is_no_calibration(
    settings: EvalSettings, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.says(lambda body: "hm" if shown(body)["answer"].endswith(("5", "6")) else by_words(body))
    assert calibrate(settings, tmp_path, people(tmp_path)) == 4
    small_run(tmp_path / "run", {"rag": answers(9, right=8)})
    endpoint.says(by_words)
    assert judge(settings, tmp_path) == 4
    assert "no verdict on 20% of the labelled answers" in the_arm(tmp_path).why_none


def test_a_judge_that_always_says_yes_tells_nothing(
    settings: EvalSettings, endpoint: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.says(verdict("yes"))
    assert calibrate(settings, tmp_path, people(tmp_path)) == 4
    assert "tells nothing" in capsys.readouterr().err
    small_run(tmp_path / "run", {"rag": answers(50, right=40)})
    assert judge(settings, tmp_path) == 4
    assert the_arm(tmp_path).why_none.startswith("tells nothing")


def test_three_labels_are_too_few_and_nothing_is_asked(
    settings: EvalSettings, endpoint: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate(settings, tmp_path, people(tmp_path, each=3)) == 4
    assert "3 answers good and 3 bad" in capsys.readouterr().err
    assert endpoint.asked == 0


def test_an_endpoint_that_is_gone_stops_with_3_and_the_rest_is_asked_later(
    settings: EvalSettings, endpoint: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_run(tmp_path / "run", {"rag": answers(8, right=6)})
    endpoint.fake.program(MODEL, status=503)
    assert judge(settings, tmp_path) == 3
    assert "run the same command to go on" in capsys.readouterr().err
    endpoint.says(by_words)
    judge(settings, tmp_path)
    assert the_arm(tmp_path).judged == 8


def test_one_answer_that_the_endpoint_chokes_on_is_missing_and_asked_again(
    settings: EvalSettings, endpoint: Endpoint, tmp_path: Path
) -> None:
    small_run(tmp_path / "run", {"rag": [*answers(5, right=4), f"{RIGHT} {'long ' * 300}"]})
    endpoint.fake.max_model_len = 350
    judge(settings, tmp_path)
    (reason,) = the_arm(tmp_path).missing
    assert "maximum context length" in reason
    endpoint.fake.max_model_len = 2048
    judge(settings, tmp_path)
    assert the_arm(tmp_path).judged == 6
    assert endpoint.asked == 7


@pytest.mark.parametrize("status", [401, 404])
def test_a_wrong_key_or_address_ends_it_at_once(
    settings: EvalSettings,
    endpoint: Endpoint,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    status: int,
) -> None:
    small_run(tmp_path / "run", {"rag": answers(30, right=20)})
    endpoint.fake.program(MODEL, status=status)
    assert judge(settings, tmp_path) == 2
    assert "check EVAL_JUDGE_KEY" in capsys.readouterr().err
    assert endpoint.asked <= 4
    assert "secret" not in capsys.readouterr().err


def test_another_answer_to_the_question_is_judged_again(
    settings: EvalSettings, endpoint: Endpoint, tmp_path: Path
) -> None:
    data = small_run(tmp_path / "run", {"rag": answers(5, right=4)})
    judge(settings, tmp_path)
    seen = data.observations["q000", "rag"]
    row = {**seen.as_json(), "answer": "Plus is free."}
    with (tmp_path / "run" / "results.jsonl").open("ab") as file:
        file.write(orjson.dumps(row) + b"\n")
    judge(settings, tmp_path)
    assert endpoint.asked == 6
    assert the_arm(tmp_path).judged == 5


def test_a_dry_run_asks_nothing_and_writes_nothing(
    settings: EvalSettings, endpoint: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_run(tmp_path / "run", {"rag": answers(5, right=4)})
    assert judge(settings, tmp_path, "--dry-run") == 0
    assert json.loads(capsys.readouterr().out)["to_ask"] == 5
    assert endpoint.asked == 0
    assert not (tmp_path / "run" / "judged.json").exists()


def test_what_people_said_of_a_run_calibrates_too(settings: EvalSettings, tmp_path: Path) -> None:
    small_run(tmp_path / "run", {"rag": answers(60, right=30)})
    readings = tmp_path / "readers.jsonl"
    said = [*["passed"] * 30, *["hallucination"] * 30]
    rows = [{"case_id": f"q{i:03d}", "arm": "rag", "label": label} for i, label in enumerate(said)]
    readings.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["judge", "calibrate", "--judge", str(judge_file(tmp_path)), "--run", str(tmp_path / "run")]
    # Nobody reviewed it in the gateway.
    assert main(arguments, settings=settings) == 2
    assert main([*arguments, "--labels", str(readings)], settings=settings) == 0
    assert judge(settings, tmp_path) == 0
    assert judged(tmp_path).calibration is not None


def test_reviews_of_a_run_calibrate_without_a_file(settings: EvalSettings, tmp_path: Path) -> None:
    small_run(tmp_path / "run", {"rag": answers(60, right=30)})
    made_up = Finding(label=Label.HALLUCINATION, sub="wrong_fact", rule="6", evidence=())
    tone = Finding(label=Label.WRONG_TONE, sub="", rule="8a", evidence=())

    def reviewed(i: int) -> LabelRecord:
        # The rude ones of the right answers say nothing of support, and are left out.
        found = made_up if i >= 30 else tone if i < 5 else None
        return LabelRecord(
            run="run",
            turn_id=f"turn-rag-{i}",
            case_id=f"q{i:03d}",
            arm="rag",
            cluster="",
            task_type="",
            outcome=Outcome.FAILED if found else Outcome.PASSED,
            primary=found,
            criteria="c1-00000000",
            source="human",
            reviewer="ann",
        )

    LabelFile(tmp_path / "run").write(reviewed(i) for i in range(60))
    arguments = ["judge", "calibrate", "--judge", str(judge_file(tmp_path)), "--run", str(tmp_path / "run")]
    assert main(arguments, settings=settings) == 0
    kept = json.loads((tmp_path / "judge.calibration.json").read_text())
    (calibration,) = kept.values()
    assert (calibration["good"], calibration["good_said_good"]) == (25, 25)
    assert (calibration["bad"], calibration["bad_said_bad"]) == (30, 30)
    assert calibration["labels"] == "reviews of run run"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--labels", "x.jsonl"], "belong to `twinrail eval judge calibrate`"),
        (["--concurrency", "0"], "must be 1 or more"),
    ],
)
def test_what_cannot_be_meant_is_told(
    settings: EvalSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    small_run(tmp_path / "run", {"rag": answers(3, right=2)})
    assert judge(settings, tmp_path, *more) == 2
    assert message in capsys.readouterr().err


def test_verdicts_are_put_beside_the_turns(
    settings: EvalSettings, endpoint: Endpoint, tmp_path: Path
) -> None:
    gateway = Served(FakeGateway(answers={"m": lambda question: CannedAnswer(answer=RIGHT)}))
    try:
        gateway.gateway.turns.update({f"turn-rag-{i}": {"id": f"turn-rag-{i}"} for i in range(3)})
        endpoint.says(lambda body: "hm" if shown(body)["answer"].endswith("2") else by_words(body))
        small_run(tmp_path / "run", {"rag": answers(3, right=1)})
        known = EvalSettings.model_validate({**settings.model_dump(), "api_key": CUSTOMER_KEY})
        judge(known, tmp_path, "--send", "--url", gateway.url)
        stored = gateway.gateway.scores
    finally:
        gateway.close()
    values = {turn: rows[-1]["value"] for turn, rows in stored.items()}
    assert values == {"turn-rag-0": 1.0, "turn-rag-1": 0.0, "turn-rag-2": None}
    (row,) = {(rows[-1]["name"], rows[-1]["version"]) for rows in stored.values()}
    assert row[0] == "judge_supported"
    assert row[1].startswith("j-supported-")
