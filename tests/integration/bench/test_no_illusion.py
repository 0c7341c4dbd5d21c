"""Two of the cases in small: the whole way from the first run to the last comparison."""

from __future__ import annotations

from pathlib import Path

from bench.illusion.cases import CASES
from bench.illusion.playing import play
from bench.illusion.recorded import play_recorded
from bench.illusion.stage import demo_stage
from bench.no_illusion import failures_of, json_of, text_of
from retrieval.embedding import OnnxEmbedder
from retrieval.minilm import prepare_minilm
from tests.prepared import MODELS


async def test_twelve_questions_are_told_that_they_are_too_few(database_url: str, tmp_path: Path) -> None:
    prepare_minilm(MODELS / "minilm")
    case = next(case for case in CASES if case.name == "too-few")
    async with demo_stage(database_url, tmp_path, OnnxEmbedder(MODELS / "minilm"), pool=24) as stage:
        played = await play(case, stage)

    assert (played.verdict, played.questions, played.missing) == ("not_enough_evidence", 12, 40)
    assert failures_of([played]) == []
    wrong, right = played.tried
    assert wrong.before == right.before
    assert right.after[0] < wrong.after[0] < wrong.before[0] == sum(played.labels.values())
    # By the test alone the right fix would be shown to help; so few questions show nothing.
    assert [tried.resolved for tried in played.tried] == [False, False]
    assert (tmp_path / "too-few-before" / "advice.html").exists()
    assert [line.split(" ")[:3] for line in played.commands][:3] == [
        ["twinrail", "eval", "run"],
        ["twinrail", "eval", "label"],
        ["twinrail", "advise", "too-few-before"],
    ]
    assert "no difference shown" in text_of(played)
    assert json_of([played])["too-few"]["as_expected"]


async def test_the_recorded_answers_of_a_real_model_are_too_few(tmp_path: Path) -> None:
    played = await play_recorded(tmp_path)

    assert played.verdict == "not_enough_evidence"
    assert set(played.rules.values()) == {"fine_tune"}
    assert [tried.role for tried in played.tried] == ["wrong", "right"]
    assert played.labels["bad_format"] > played.questions / 3
