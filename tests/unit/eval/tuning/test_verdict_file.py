"""Only a whole report of `tune evaluate` counts as a verdict; anything else is refused with field and fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from eval.tuning.verdict_file import read_verdict_file
from serving.errors import VerdictError
from tests.fakes.tuning_reports import tuning_report, write_tuning_report

VERSION = "m-support-12345678"


def written(folder: Path, **other: Any) -> Path:
    return write_tuning_report(folder, tuning_report(VERSION, **other))


@pytest.mark.parametrize("verdict", ["pass", "refused", "not_enough"])
def test_a_report_is_read(tmp_path: Path, verdict: str) -> None:
    path = written(tmp_path, verdict=verdict)
    found = read_verdict_file(path, dataset_sha256=None)
    assert (found.gate, found.version, found.verdict) == ("tuning", VERSION, verdict)
    assert found.sha256 == orjson.loads(path.read_bytes())["sha256"]


def test_a_few_words_of_json_are_no_verdict(tmp_path: Path) -> None:
    path = tmp_path / "pass.json"
    path.write_text(f'{{"gate": "tuning", "verdict": "pass", "version": "{VERSION}", "format": 1}}')
    with pytest.raises(VerdictError, match=r"sha256: is missing.*give the report\.json that"):
        read_verdict_file(path, dataset_sha256=None)


@pytest.mark.parametrize("missing", [*tuning_report(VERSION)])
def test_each_field_has_to_be_there(tmp_path: Path, missing: str) -> None:
    content = {name: value for name, value in tuning_report(VERSION).items() if name != missing}
    with pytest.raises(VerdictError, match=rf"report\.json: {missing}: is missing"):
        read_verdict_file(write_tuning_report(tmp_path, content), dataset_sha256=None)


def test_a_report_that_was_edited_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, verdict="refused")
    path.write_bytes(path.read_bytes().replace(b'"verdict":"refused"', b'"verdict":"pass"'))
    with pytest.raises(VerdictError, match=r"sha256: is .* hashes to .* it was edited"):
        read_verdict_file(path, dataset_sha256=None)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"gate": "tone"}, "gate: is 'tone', not 'tuning'"),
        ({"format": 2}, "format: is 2, not 1"),
        ({"verdict": "fine"}, "verdict: 'fine' is none of"),
        ({"refusals": ["worse"]}, "verdict: is pass, and refusals says refused"),
        ({"lacks": ["flips"]}, "verdict: is pass, and lacks says not_enough"),
        ({"arms": {"candidate": {"version": "m-a-1"}}}, "arms.candidate.version: is 'm-a-1'"),
        ({"arms": {}}, "arms.candidate.version: is None"),
        ({"question_set": {"questions": 0, "sha256": "ab"}}, "question_set: names no questions"),
        ({"trained_on": {"sha256": "d" * 64, "rows": None}}, "trained_on.rows: nobody has looked"),
        ({"trained_on": {"sha256": "e" * 64, "rows": 5}}, "trained_on.sha256: is eeeeeeeeeeee"),
        ({"metrics": []}, "metrics: is empty"),
        ({"gates": {}}, "gates: is empty"),
        ({"gates": {"strong": {"verdict": "refused"}}}, "gates.strong.verdict: is 'refused'"),
    ],
)
def test_a_pass_rests_on_what_it_names(tmp_path: Path, other: dict[str, Any], message: str) -> None:
    given = {"trained_on": {"sha256": "d" * 64, "rows": 5}, **other}
    with pytest.raises(VerdictError, match=message):
        read_verdict_file(written(tmp_path, **given), dataset_sha256="d" * 64)
