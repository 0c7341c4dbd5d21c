"""Grids: which prompts a file makes, and what is refused before a model sees it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from eval.errors import PromptGridError
from eval.prompts.command import DEMO_GRID
from eval.prompts.grid import Candidate, read_grid
from serving.versions import SCHEMAS, load_task_schema

SCHEMA = load_task_schema(SCHEMAS / "support_answer.json")
ANSWER = (
    '{"answer":"5 days.","citations":[1],"intent":"limits","escalate":false,'
    '"escalation_reason":"none","follow_up":""}'
)
EXAMPLE = {"context": "[1] Lockers\n5 days.", "question": "how long?", "answer": ANSWER}
GRID = {
    "name": "desk",
    "instructions": {"long": "Answer in JSON, from the passages.", "short": "Answer."},
    "examples": {"one": EXAMPLE, "two": {**EXAMPLE, "question": "when?"}},
    "sets": {"bare": [], "pair": ["one", "two"]},
    "orders": ["given", "reversed"],
}


def written(tmp_path: Path, **change: object) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump({**GRID, **change}), encoding="utf-8")
    return path


def test_every_instruction_with_every_set_in_every_order(tmp_path: Path) -> None:
    grid = read_grid(written(tmp_path), SCHEMA)
    assert [each.name for each in grid.candidates] == [
        "long-bare",
        "long-pair",
        "long-pair-reversed",
        "short-bare",
        "short-pair",
        "short-pair-reversed",
    ]
    pair, turned = (each.prompt for each in grid.candidates[1:3])
    assert pair is not None
    assert turned is not None
    assert pair.name == "desk_long-pair"
    assert [shot.question for shot in pair.shots] == ["how long?", "when?"]
    assert turned.shots == pair.shots[::-1]
    assert len({each.sha256 for each in grid.candidates}) == 6
    assert Candidate(name="current", prompt=None).sha256 == ""


def test_the_demos_grid_is_one() -> None:
    assert len(read_grid(DEMO_GRID, SCHEMA).candidates) == 15


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sets": {"a": ["three"]}}, r"sets\.a: no example is called 'three'"),
        ({"sets": {"a": ["one", "one"]}}, r"sets\.a: names an example twice"),
        ({"examples": {"one": {**EXAMPLE, "answer": "5 days."}, "two": EXAMPLE}}, r"one\.answer: not JSON"),
        (
            {"examples": {"one": {**EXAMPLE, "answer": '{"answer":"5"}'}, "two": EXAMPLE}},
            r"one\.answer: \$: 'citations' is a required property",
        ),
        ({"instructions": {"A b": "x"}}, "cannot name a prompt"),
        ({"instructions": {}}, "instructions: "),
        ({"orders": ["shuffled"]}, "orders"),
        ({"orders": ["reversed"], "sets": {"bare": []}}, "orders: makes no prompt"),
        ({"orders": ["given", "given"]}, "long-bare: two prompts have this name"),
        ({"instructions": {"a": "x", "a-b": "y"}, "sets": {"c": [], "b-c": []}}, "a-b-c: two prompts"),
        ({"colour": "red"}, "colour"),
        ({"instructions": {f"i{n}": str(n) for n in range(30)}}, "makes 90 prompts"),
    ],
)
def test_what_would_fail_in_front_of_the_model_is_refused(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    with pytest.raises(PromptGridError, match=words):
        read_grid(written(tmp_path, **change), SCHEMA)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(PromptGridError, match="--grid"):
        read_grid(tmp_path / "none.yaml", SCHEMA)
    (tmp_path / "a.yaml").write_text("name: [", encoding="utf-8")
    with pytest.raises(PromptGridError, match="not YAML"):
        read_grid(tmp_path / "a.yaml", SCHEMA)
