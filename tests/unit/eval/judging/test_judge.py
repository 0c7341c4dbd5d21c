"""A judge's file, and its version: the name of everything that decides what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.errors import JudgeFileError
from eval.judging.judge import PROMPTS, Part, load_judge
from tests.unit.eval.judging.runs import judge_file

MINIMAL = 'name = "supported"\nprompt = "supported"\n'


def version(folder: Path, text: str, *, model: str = "m-1", url: str = "http://a.invalid/v1") -> str:
    return load_judge(judge_file(folder, text), url=url, model=model).version


def test_the_file_alone_is_enough_with_model_and_address_from_settings(tmp_path: Path) -> None:
    judge = load_judge(judge_file(tmp_path), url="http://a.invalid/v1/", model="m-1")
    assert (judge.url, judge.model) == ("http://a.invalid/v1", "m-1")
    assert judge.needs == (Part.QUESTION, Part.PASSAGES, Part.ANSWER)
    assert "follow from the passages" in judge.prompt
    assert judge.version.startswith("j-supported-")


def test_the_file_comes_before_settings(tmp_path: Path) -> None:
    text = MINIMAL + 'model = "m-file"\nurl = "https://judge.invalid/v1"\n'
    judge = load_judge(judge_file(tmp_path, text), url="http://a.invalid/v1", model="m-1")
    assert (judge.url, judge.model) == ("https://judge.invalid/v1", "m-file")


@pytest.mark.parametrize(
    "change", ["max_tokens = 300\n", 'needs = ["answer"]\n', 'needs = ["passages", "answer"]\n']
)
def test_what_decides_changes_the_version(tmp_path: Path, change: str) -> None:
    assert version(tmp_path, MINIMAL + change) != version(tmp_path, MINIMAL)


def test_model_and_prompt_change_the_version(tmp_path: Path) -> None:
    assert version(tmp_path, MINIMAL, model="m-2") != version(tmp_path, MINIMAL)
    own = 'name = "supported"\nprompt = "mine.txt"\n'
    (tmp_path / "mine.txt").write_text("Is it true?")
    before = version(tmp_path, own)
    (tmp_path / "mine.txt").write_text("Is it kind?")
    assert version(tmp_path, own) != before


def test_address_order_and_words_of_people_do_not(tmp_path: Path) -> None:
    same = version(tmp_path, MINIMAL)
    assert version(tmp_path, MINIMAL, url="http://b.invalid/v1") == same
    assert version(tmp_path, MINIMAL + 'needs = ["answer", "passages", "question"]\n') == same
    assert version(tmp_path, MINIMAL + '[labels]\nyes = ["ok"]\n') == same


@pytest.mark.parametrize("path", sorted(PROMPTS.glob("*.md")), ids=lambda path: str(path.stem))
def test_every_packaged_prompt_asks_for_the_schema(tmp_path: Path, path: Path) -> None:
    judge = load_judge(
        judge_file(tmp_path, f'name = "one"\nprompt = "{path.stem}"\n'), url="http://a.invalid/v1", model="m"
    )
    assert '"reason"' in judge.prompt
    assert '"verdict"' in judge.prompt


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "is not TOML"),
        ('prompt = "supported"\n', "name: Field required"),
        ('name = "Not so"\nprompt = "supported"\n', "name: String should match"),
        ('name = "a"\nprompt = "gone.txt"\n', "name a text file, or one of policy, supported, tone"),
        (MINIMAL + 'needs = ["question"]\n', 'must hold "answer"'),
        (MINIMAL + "temperature = 1\n", "temperature: Extra inputs"),
        (MINIMAL + 'url = "judge"\n', "is no address"),
        (MINIMAL + '[labels]\nyes = ["ok"]\nno = ["ok"]\n', "ok cannot mean yes and no"),
        (MINIMAL + "[labels]\nno = []\n", "one word for yes and one for no"),
    ],
)
def test_a_bad_file_is_told_with_field_and_fix(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(JudgeFileError, match=r"docs/evaluation\.md") as told:
        load_judge(judge_file(tmp_path, text), url="http://a.invalid/v1", model="m")
    assert message in str(told.value)


def test_a_missing_model_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(JudgeFileError, match="EVAL_JUDGE_MODEL"):
        load_judge(judge_file(tmp_path), url="http://a.invalid/v1")
    with pytest.raises(JudgeFileError, match="EVAL_JUDGE_URL"):
        load_judge(judge_file(tmp_path), model="m")


def test_an_empty_prompt_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(" \n")
    with pytest.raises(JudgeFileError, match="is empty"):
        load_judge(
            judge_file(tmp_path, 'name = "a"\nprompt = "mine.txt"\n'), url="http://a.invalid", model="m"
        )
