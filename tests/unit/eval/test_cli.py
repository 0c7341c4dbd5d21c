"""The command line without a gateway: usage, settings and their documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.cli import main
from eval.settings import EvalSettings

DOCS = Path(__file__).parents[3] / "docs" / "evaluation.md"


@pytest.mark.parametrize("argv", [["run", "--help"], ["score", "--help"], ["compare", "--help"], ["--help"]])
def test_help_is_exit_0_and_shows_an_example(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert "usage: twinrail eval" in text
    assert argv == ["--help"] or "example" in text


@pytest.mark.parametrize("argv", [[], ["measure"], ["run", "--limit", "x"], ["score"], ["compare", "one"]])
def test_bad_usage_is_exit_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["run", "--limit", "abc"], "usage: twinrail eval run"),
        (["versions", "a", "b", "--limit", "abc"], "usage: twinrail knowledge compare"),
    ],
)
def test_a_limit_that_is_no_number_says_what_is(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert said.startswith(says)
    assert "argument --limit: must be 1 or more" in said


def test_a_bad_setting_is_named_as_the_environment_has_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVAL_CONCURRENCY", "0")
    assert main(["score", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("twinrail eval: EVAL_CONCURRENCY: ")


def test_a_folder_that_is_no_run_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(tmp_path)], settings=EvalSettings()) == 2
    assert "no run.json there" in capsys.readouterr().err


def test_every_setting_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert [name for name in EvalSettings.model_fields if f"`EVAL_{name.upper()}`" not in text] == []
