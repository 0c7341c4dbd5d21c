"""`twinrail eval` against a gateway over real sockets: what it asks, what it says, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eval.cli import main
from eval.settings import EvalSettings
from tests.fakes.gateway_server import (
    BASE,
    CUSTOMER_KEY,
    KNOWLEDGE,
    STAFF_KEY,
    TUNED,
    CannedAnswer,
    FakeGateway,
)
from tests.fakes.gateway_thread import Served
from tests.fakes.question_rows import RIGHT, write_questions

#: A number that no question holds: what the customer said herself is not made up.
WRONG = "Sync Plus is $77 a month."


def tuned(question: str) -> CannedAnswer:
    return CannedAnswer(answer=RIGHT)


def base(question: str) -> CannedAnswer:
    """Wrong and badly written on two questions of three."""
    good = int(question.split()[-1]) % 3 == 0
    return CannedAnswer(
        answer=RIGHT if good else WRONG, draft=None if good else json.dumps({"answer": "Sure! " + WRONG})
    )


@pytest.fixture
def served() -> Iterator[Served]:
    server = Served(FakeGateway(answers={BASE: base, TUNED: tuned}))
    yield server
    server.close()


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return write_questions(
        tmp_path / "questions",
        each=10,
        given=lambda n: {"asker": "staff" if n == 9 else "customer", "stale_values": ["$8"]},
    )


def settings(served: Served, tmp_path: Path, **changes: Any) -> EvalSettings:
    return EvalSettings.model_validate(
        {
            "gateway_url": served.url,
            "api_key": CUSTOMER_KEY,
            "staff_api_key": STAFF_KEY,
            "runs": tmp_path / "runs",
            "attempts": 3,
            "timeout_s": 20,
            "resamples": 500,
            **changes,
        }
    )


def run(served: Served, tmp_path: Path, questions: Path, *options: str, **changes: Any) -> int:
    chosen = settings(served, tmp_path, **changes)
    return main(["run", "--questions", str(questions), *options], settings=chosen)


def test_an_improved_index_is_found_or_missed_in_words(
    served: Served, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = ("--arms", "rag_base,rag_improved")
    assert run(served, tmp_path, questions, *arms, "--run", str(tmp_path / "none")) == 2
    assert "arm rag_improved: no index version beside the stable one" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()

    served.gateway.indexes = (KNOWLEDGE, "k-smaller-00000002")
    assert run(served, tmp_path, questions, *arms, "--run", str(tmp_path / "run")) == 0
    improved = json.loads((tmp_path / "run" / "run.json").read_text())["arms"][1]
    assert (improved["stated"], improved["pin"]["knowledge"]) == ("rag_plus", "k-smaller-00000002@3")
    assert improved["pin"]["model"] == BASE

    served.gateway.indexes = (KNOWLEDGE, "k-smaller-00000002", "k-larger-00000003")
    assert run(served, tmp_path, questions, *arms, "--run", str(tmp_path / "several")) == 2
    assert "k-larger-00000003, k-smaller-00000002" in capsys.readouterr().err
    named = "rag_improved=knowledge:k-larger-00000003@3,model:fallback"
    assert run(served, tmp_path, questions, "--arm", named, "--run", str(tmp_path / "named")) == 0


def test_policy_and_what_each_layer_takes_and_costs(
    served: Served, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, team = tmp_path / "run", tmp_path / "team.toml"
    assert run(served, tmp_path, questions, "--run", str(folder)) == 0
    plain = capsys.readouterr().out
    assert "What an answer takes by layer, mean and 95 % by topic (no prices: --team FILE)" in plain
    assert "cost:" not in plain
    report = json.loads((folder / "report.json").read_text())
    broken = report["arms"]["rag_tuned"]["metrics"]["policy_broken"]
    assert (broken["k"], broken["n"], broken["higher_is_better"]) == (0, 40, False)
    assert broken["high"] > 0, "none seen is not none there"
    used = {(row["layer"], row["unit"]): row["mean"] for row in report["costs"]["rag_tuned"]["used"]}
    assert used == {("retrieval", "ms"): 10.0, ("prompt", "tokens"): 400.0, ("output", "tokens"): 40.0}
    assert report["costs"]["rag_tuned"]["cost"] is None

    team.write_text(
        'team_size = "solo"\nregulated = false\n[prices]\nprompt_per_million = 1\n'
        "completion_per_million = 4\nretrieval_hour = 3.6\n[wages]\nagent_hour = 60\nminutes_a_handoff = 1\n"
    )
    chosen = settings(served, tmp_path)
    assert main(["score", str(folder), "--team", str(team)], settings=chosen) == 0
    priced = capsys.readouterr().out
    assert "1000 answers cost in EUR" in priced
    report = json.loads((folder / "report.json").read_text())
    layers = {layer["name"]: layer for layer in report["costs"]["rag_tuned"]["cost"]["layers"]}
    assert layers["prompt"]["amount"] == pytest.approx(400 * 1e-6)
    assert layers["output"]["amount"] == pytest.approx(40 * 4e-6)
    assert layers["retrieval"]["amount"] == pytest.approx(10 * 1e-6)
    assert layers["output"]["low"] == layers["output"]["high"] == pytest.approx(160e-6)
    assert layers["review"]["amount"] == 0
    assert main(["score", str(folder), "--team", str(tmp_path / "none.toml")], settings=chosen) == 2


def test_three_arms_five_metrics_and_a_record(
    served: Served, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert run(served, tmp_path, questions, "--json", "--run", str(folder)) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["arms"]) == {"prompt_only", "rag_base", "rag_tuned"}
    tuned_metrics = report["arms"]["rag_tuned"]["metrics"]
    base_metrics = report["arms"]["rag_base"]["metrics"]
    assert (tuned_metrics["answer_right"]["k"], tuned_metrics["answer_right"]["n"]) == (40, 40)
    assert base_metrics["answer_right"]["k"] == 16
    assert base_metrics["format_valid"]["k"] == 16, "the served answers are fine, the drafts were not"
    assert tuned_metrics["hallucination_served"]["k"] == 0
    assert base_metrics["hallucination_served"]["k"] == 24
    assert base_metrics["hallucination_draft"]["k"] == 24
    compared = {c["metric"] for c in report["comparisons"]}
    assert "hallucination_draft" in compared, "the gateway enforces its own check on what is served"
    assert "hallucination_served" not in compared
    assert base_metrics["would_be_corrected"]["k"] == 24
    assert report["arms"]["prompt_only"]["metrics"]["hit"]["n"] == 0
    assert report["retrieval"][0]["ndcg_at_10"] == 1.0
    better = [
        c for c in report["comparisons"] if c["metric"] == "answer_right" and c["second"] == "rag_tuned"
    ]
    assert all(c["resolved"] for c in better)

    record = json.loads((folder / "run.json").read_text())
    assert record["question_set_sha256"] == report["question_set"]["sha256"]
    pinned = {name: value for name, value in record["arms"][2]["pin"].items() if value is not None}
    assert pinned == {"knowledge": "k-fake-00000001@3", "model": TUNED}
    assert record["sessions"][0]["outcome"] == "complete"
    assert {"report.json", "report.md", "results.jsonl", "searches.jsonl", "cases.jsonl"} <= {
        path.name for path in folder.iterdir()
    }
    searches = [path for _, path, _ in served.gateway.requests if path == "/v1/search"]
    assert len(searches) == 40, "once per question, not once per arm"


def test_repeats_show_what_changes_by_itself(
    served: Served, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times: Counter[str] = Counter()

    def wavering(question: str) -> CannedAnswer:
        """Right at first, and wrong about four prices when it is asked again."""
        times[question] += 1
        turns = question.startswith("prices") and int(question.split()[-1]) < 4 and times[question] > 1
        return CannedAnswer(answer=WRONG if turns else RIGHT)

    served.gateway.answers = {TUNED: wavering}
    folder = tmp_path / "run"
    options = ["--arms", "rag_tuned", "--run", str(folder), "--json"]
    assert run(served, tmp_path, questions, *options) == 0
    assert json.loads(capsys.readouterr().out)["flips"] == {}
    served.gateway.requests.clear()
    assert run(served, tmp_path, questions, *options, "--repeats", "3") == 0, "an old run is asked again"
    assert len(served.gateway.asked) == 80
    report = json.loads(capsys.readouterr().out)
    assert report["arms"]["rag_tuned"]["metrics"]["answer_right"]["k"] == 40, "metrics count the first answer"
    assert (report["repeats"], report["flips"]["rag_tuned"]["answer_right"]["k"]) == (3, 4)
    assert report["flips"]["rag_tuned"]["format_valid"]["k"] == 0
    assert "4/40 10%" in (folder / "report.md").read_text()
    assert run(served, tmp_path, questions, *options, "--repeats", "2") == 2
    assert "asks 3 times already" in capsys.readouterr().err


def test_staff_questions_are_asked_with_the_staff_key(
    served: Served, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(served, tmp_path, questions, "--arms", "rag_tuned", staff_api_key=None) == 0
    assert "Not asked: 4 of staff (set EVAL_STAFF_API_KEY)" in capsys.readouterr().out
    served.gateway.requests.clear()
    assert run(served, tmp_path, questions, "--arms", "rag_tuned", "--run", str(tmp_path / "all")) == 0
    keys = {body["question"]: key for key, path, body in served.gateway.requests if path == "/v1/answers"}
    assert keys["plans question 9"] == STAFF_KEY
    assert keys["plans question 8"] == CUSTOMER_KEY


def test_a_run_that_lost_its_gateway_is_resumed(
    served: Served, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    chosen = settings(served, tmp_path, attempts=1, concurrency=1)
    gateway = served.gateway
    answers = gateway.answers

    def gone(question: str) -> CannedAnswer:
        gateway.gone = len(gateway.asked) >= 12
        return tuned(question)

    gateway.answers = {TUNED: gone}
    command = ["run", "--questions", str(questions), "--arms", "rag_tuned", "--run", str(folder)]
    assert main(command, settings=chosen) == 3
    assert "resume with --run" in capsys.readouterr().err
    kept = len((folder / "results.jsonl").read_text().splitlines())
    assert 0 < kept < 40

    gateway.answers = answers
    gateway.gone = False
    gateway.requests.clear()
    assert main(["run", "--run", str(folder)], settings=settings(served, tmp_path)) == 0
    assert len(gateway.asked) == 40 - kept
    assert "40/40 100%" in capsys.readouterr().out


def test_a_busy_gateway_is_asked_again(
    served: Served, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.gateway.faults.extend([(503, {"Retry-After": "0"}), (429, {"Retry-After": "0"})])
    served.gateway.turn_lag = 2
    assert run(served, tmp_path, questions, "--arms", "rag_tuned", attempts=6, concurrency=1) == 0
    assert "40 / 40" in capsys.readouterr().out


def test_one_refused_question_fails_alone(
    served: Served, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.gateway.refused = frozenset({"plans question 1"})
    assert run(served, tmp_path, questions, "--arms", "rag_tuned", "--json") == 0
    arm = json.loads(capsys.readouterr().out)["arms"]["rag_tuned"]
    assert arm["metrics"]["answer_right"]["n"] == 39
    assert list(arm["failed"].values()) == [1]


def test_few_questions_print_their_counts_and_exit_with_4(
    served: Served, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(served, tmp_path, questions, "--limit", "8", "--arms", "rag_tuned") == 4
    output = capsys.readouterr()
    assert "8/8 100%" in output.out
    assert "not enough evidence: 8 questions; at least 30 are needed" in output.err


def test_no_gateway_is_exit_3(questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    chosen = EvalSettings.model_validate({"gateway_url": url, "api_key": CUSTOMER_KEY, "attempts": 1})
    assert main(["run", "--questions", str(questions)], settings=chosen) == 3
    assert url in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "changes", "words"),
    [
        ((), {"api_key": "tw_wrong"}, "scopes ask and eval"),
        ((), {"api_key": None}, "EVAL_API_KEY: not set"),
        (("--arm", "x=model:m-unknown-1"), {}, "pin.model"),
        (("--arm", "x=model:canary"), {}, "no canary version on the model rail"),
        (("--arms", "rag"), {}, "no arm is called 'rag'"),
        (("--split", "later"), {}, "choose from dev"),
        (("--schema", "missing.json"), {}, "missing.json"),
        (("--limit", "0"), {}, "1 or more"),
    ],
)
def test_what_cannot_be_asked_is_exit_2(
    served: Served,
    questions: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    changes: dict[str, Any],
    words: str,
) -> None:
    assert run(served, tmp_path, questions, *options, **changes) == 2
    assert words in capsys.readouterr().err


def test_a_resumed_run_keeps_its_questions_and_arms(
    served: Served, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "run")
    assert run(served, tmp_path, questions, "--arms", "rag_tuned", "--run", folder) == 0
    assert run(served, tmp_path, questions, "--arms", "rag_tuned", "--run", folder) == 0, (
        "the same again is fine"
    )
    assert run(served, tmp_path, questions, "--limit", "5", "--run", folder) == 2
    assert run(served, tmp_path, questions, "--arms", "rag_base", "--run", folder) == 2
    assert "was begun with the arms rag_tuned" in capsys.readouterr().err


def test_dry_run_asks_and_writes_nothing(
    served: Served, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(served, tmp_path, questions, "--dry-run", "--run", str(tmp_path / "run")) == 0
    assert json.loads(capsys.readouterr().out)["answers"] == 120
    assert served.gateway.requests == []
    assert not (tmp_path / "run").exists()


def test_score_and_compare_need_no_gateway(
    served: Served, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert run(served, tmp_path, questions, "--json", "--run", str(folder)) == 0
    first = json.loads(capsys.readouterr().out)
    served.gateway.requests.clear()
    offline = EvalSettings.model_validate({"resamples": 500})
    assert main(["score", str(folder), "--json"], settings=offline) == 0
    assert json.loads(capsys.readouterr().out) == first, "the same run scores the same"
    sides = [f"{folder}:rag_base", f"{folder}:rag_tuned"]
    assert main(["compare", *sides, "--json"], settings=offline) == 0
    found = {row["metric"]: row for row in json.loads(capsys.readouterr().out)}
    assert (found["answer_right"]["only_first"], found["answer_right"]["only_second"]) == (0, 24)
    assert main(["compare", *sides], settings=offline) == 0
    assert "run:rag_tuned is better than run:rag_base" in capsys.readouterr().out
    assert served.gateway.requests == []
    assert main(["compare", str(folder), sides[1]], settings=offline) == 2
    assert main(["compare", f"{folder}:nope", sides[1]], settings=offline) == 2


def test_public_sets_are_asked_too(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "public"
    folder.mkdir()
    rows = [
        {
            "id": f"q{n}",
            "text": f"question {n}",
            "answerable": n % 4 != 0,
            "history": [{"role": "user", "text": "hello"}, {"role": "assistant", "text": "hi"}],
        }
        for n in range(40)
    ]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "qrels.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"q{n}\tplus\t1\n" for n in range(40) if n % 4)
    )
    assert run(served, tmp_path, folder, "--arms", "rag_tuned", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["retrieval"][0]["hit_at_1"]["n"] == 30
    metrics = report["arms"]["rag_tuned"]["metrics"]
    assert metrics["answer_right"]["n"] == 10, "only the questions to abstain from have an answer key"
    assert metrics["abstained_when_due"]["k"] == 0
    sent = next(body for _, path, body in served.gateway.requests if path == "/v1/answers")
    assert sent["history"][0] == {"role": "user", "content": "hello"}


def test_ctrl_c_keeps_what_was_answered(served: Served, questions: Path, tmp_path: Path) -> None:
    def slow(question: str) -> CannedAnswer:
        time.sleep(0.2)
        return tuned(question)

    served.gateway.answers = {TUNED: slow}
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "eval", "run", "--questions", str(questions)),
            *("--arms", "rag_tuned", "--run", str(folder)),
        ],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "EVAL_GATEWAY_URL": served.url, "EVAL_API_KEY": CUSTOMER_KEY},
        stderr=subprocess.PIPE,
        text=True,
    )
    results = folder / "results.jsonl"
    until = time.monotonic() + 60
    while not results.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "with --run DIR" in errors
    assert "Traceback" not in errors
    assert json.loads((folder / "run.json").read_text())["sessions"][0]["outcome"] == "interrupted"

    kept = len(results.read_text().splitlines())
    served.gateway.answers = {TUNED: tuned}
    served.gateway.requests.clear()
    assert main(["run", "--run", str(folder)], settings=settings(served, tmp_path)) == 0
    assert len(served.gateway.asked) == 40 - kept
