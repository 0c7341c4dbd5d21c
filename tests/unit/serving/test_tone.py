"""The house tone, rule by rule; fixed wordings keep it."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.errors import WordingError
from serving.tone import check_tone
from serving.wording import load_wording


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("You can cancel under Account > Plan.", ()),
        ("Done!", ("exclamation_mark",)),
        ("Done \U0001f600", ("emoji",)),
        ("Unfortunately there is no such plan.", ("unfortunately",)),
        ("As an AI I cannot say.", ("as_an_ai",)),
        ("I apologize for that.", ("apology",)),
        ("We are very sorry.", ("apology",)),
        ("Please be advised that it ends.", ("please_be_advised",)),
        ("Users may cancel.", ("users_may",)),
        ("Hello, you can cancel.", ("greeting",)),
        ("Thank you for reaching out.", ("thanks_opener",)),
        ("Feel free to contact us.", ("sign_off",)),
        ("You can hide the folder.", ()),
    ],
)
def test_each_rule_is_named(text: str, broken: tuple[str, ...]) -> None:
    assert check_tone(text) == broken


def test_a_whole_answer_is_neither_empty_nor_long() -> None:
    assert check_tone("", whole=True) == ("empty",)
    assert check_tone("word " * 46, whole=True) == ("too_many_words",)
    assert check_tone("One. Two. Three. Four.", whole=True) == ("too_many_sentences",)
    assert check_tone("word " * 46) == ()


def test_the_packaged_wordings_keep_the_tone() -> None:
    for sentence in load_wording().all():
        assert check_tone(sentence, whole=True) == ()


def test_a_deployments_wording_replaces_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "wording.yaml"
    path.write_text("off_topic: I can only help with\n  lamps.\n")
    wording = load_wording(path)
    assert wording.off_topic == "I can only help with lamps."
    assert wording.failed == load_wording().failed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "must be a mapping"),
        ("x: y", "unknown field 'x'"),
        ("failed: 3", "failed: must be a text"),
        ("a: [", "not YAML"),
    ],
)
def test_a_bad_wording_file_is_named_with_the_field(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "wording.yaml"
    path.write_text(content)
    with pytest.raises(WordingError, match=message):
        load_wording(path)
    with pytest.raises(WordingError, match="no such wording file"):
        load_wording(tmp_path / "none.yaml")
