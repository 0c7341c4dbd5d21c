"""Rules files: what they may hold, and what is said of what they may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.errors import GateRulesError
from eval.gating.rules import GateRules, Goal


def load(tmp_path: Path, text: str) -> GateRules:
    file = tmp_path / "gate.toml"
    file.write_text(text)
    return GateRules.load(file)


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    assert load(tmp_path, "") == GateRules()
    assert GateRules().primaries_of("model")[0] == "answer_right"
    assert GateRules().primaries_of("knowledge")[0] == "gold_in_prompt"


def test_a_file_says_what_differs(tmp_path: Path) -> None:
    rules = load(
        tmp_path,
        'goal = "not_worse"\nprimaries = ["hit"]\nregression = "ids.txt"\n'
        "[guards]\nformat_valid = 0.02\ntone_kept = { margin = 0.1, must_be_shown = false }\n"
        '[slices]\nby = ["kind", "asker"]\n',
    )
    assert (rules.goal, rules.primaries_of("model")) == (Goal.NOT_WORSE, ("hit",))
    assert (rules.guards["format_valid"].margin, rules.guards["format_valid"].must_be_shown) == (0.02, True)
    assert (rules.guards["tone_kept"].margin, rules.guards["tone_kept"].must_be_shown) == (0.1, False)
    assert rules.regression == tmp_path / "ids.txt"
    assert rules.slices.by == ("kind", "asker")


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("primaries = [", "", "is not TOML"),
        ('primaries = ["accuracy"]', "primaries", "'accuracy' is not one of "),
        ("[guards]\naccuracy = 0.05", "guards", "'accuracy' is not one of "),
        ("[guards]\nhit = 5", "guards.hit.margin", "less than 1"),
        ("[limits]\nseconds = 2.0", "limits", "'seconds' is not one of completion_tokens, "),
        ("[limits]\nwall_ms = 0.9", "limits.wall_ms", "greater than or equal to 1"),
        ('[slices]\nby = ["text"]', "slices.by", "'text' is not one of "),
        ('zero_tolerance = ["swearing"]', "zero_tolerance", "'swearing' is not one of "),
        ("margins = 0.05", "margins", "not permitted"),
        ('goal = "best"', "goal", "'better' or 'not_worse'"),
        ("gain = 0", "gain", "greater than 0"),
    ],
)
def test_a_mistake_names_file_and_field(tmp_path: Path, text: str, field: str, words: str) -> None:
    with pytest.raises(GateRulesError, match=r"gate\.toml") as caught:
        load(tmp_path, text)
    said = str(caught.value)
    assert f"gate.toml: {field}" in said
    assert words.lower() in said.lower()


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(GateRulesError, match="No such file"):
        GateRules.load(tmp_path / "gate.toml")
