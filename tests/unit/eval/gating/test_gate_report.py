"""How a decision reads, and how it gets into a run's report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eval.cases import Case
from eval.gating.gate_report import markdown_decision, text_decision, with_section
from eval.gating.gates import decide
from eval.gating.rules import GateRules
from eval.gating.verdicts import Decision
from tests.fakes.gate_sides import cases, evidence, marks

N = 100
SAME = {"answer_right": marks(60, N), "format_valid": marks(N, N)}
BETTER = {**SAME, "answer_right": marks(80, N)}


def decision(of: Sequence[Case]) -> Decision:
    """A candidate that passes, on these questions."""
    rules = {"primaries": ["answer_right"], "guards": {"format_valid": 0.05}, "limits": {}}
    return decide(
        evidence(SAME, BETTER, of, notes=("a note",)),
        GateRules.model_validate(rules),
        min_questions=30,
        resamples=500,
        seed=1,
    )


def test_the_verdict_stands_first_and_last() -> None:
    found = decision(cases(N, kinds=("easy", "hard")))
    lines = text_decision(found).strip().splitlines()
    assert lines[0] == lines[-1] == found.sentence()
    assert any(line.startswith("answer_right [kind=hard]") and line.endswith("better") for line in lines)
    assert "- a note" in lines


def test_the_section_is_markdown_without_html() -> None:
    section = markdown_decision(decision(cases(N, kinds=("easy", "hard"))))
    assert section.startswith("## Gate promotion: m-new-00000001\n\n**PASS: ")
    tables = [block.splitlines() for block in section.split("\n\n") if block.startswith("|")]
    assert len(tables) == 3
    for table in tables:
        assert len({line.count("|") for line in table}) == 1, "every row has every cell"
    assert "<" not in section


def test_a_slice_without_numbers_is_named_and_not_tabled() -> None:
    of = [replace(case, kind="rare" if place < 5 else "usual") for place, case in enumerate(cases(N))]
    text = text_decision(decision(of))
    assert "- kind=rare: answer_right 5" in text
    assert "answer_right [kind=rare]" not in text


def test_a_section_replaces_its_own_and_nothing_else() -> None:
    report = "# Evaluation run\n\n## How to read this\n\nWith care.\n"
    first = with_section(report, "## Gate a: m-1\n\nrefused\n")
    both = with_section(first, "## Gate b: m-1\n\npass\n")
    again = with_section(both, "## Gate a: m-1\n\npass\n")
    assert again.startswith(report.rstrip())
    assert again.count("## Gate a: m-1") == again.count("## Gate b: m-1") == 1
    assert "refused" not in again
    assert with_section(again, "## Gate a: m-1\n\npass\n") == again
    assert with_section("", "## Gate a: m-1\n\npass\n") == "## Gate a: m-1\n\npass\n"
