"""The case of a real model: answers of real vLLM on the demo, recorded; nothing is asked again."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.illusion.cases import Fix, Ground, IllusionCase, Setting
from bench.illusion.commands import Commands
from bench.illusion.playing import Comparing, Played, played, write_team
from eval.advice.deciding import Verdict
from eval.settings import EvalSettings

RUN = Path(__file__).parents[1] / "organic" / "demo"
_FILES = ("run.json", "cases.jsonl", "results.jsonl", "searches.jsonl", "documents.jsonl")
_BASE, _ORACLE, _TUNED = "rag_base", "oracle", "rag_tuned"
#: What stands for each fix is an arm of the run: no retrieval is better than the gold articles themselves.
CASE = IllusionCase(
    name="recorded",
    title="Not enough evidence: real vLLM on 42 questions",
    ground=Ground.RECORDED,
    verdict=Verdict.NOT_ENOUGH,
    looks_like="95 of 100 answers are wrong, half of them unusable in form: train, that much is plain",
    live=Setting(),
    wrong=Fix(title="the gold articles given: the best retrieval there can be", then=Setting()),
    right=Fix(title="the tuned model", then=Setting()),
    metric="answer_right",
    limit=42,
    tried={"constrained_decoding": True},
    shows_gain=False,
)


async def play_recorded(folder: Path) -> Played:
    """Label, advise and compare from the folder alone."""
    run = folder / CASE.name
    run.mkdir()
    for name in _FILES:
        shutil.copy(RUN / name, run / name)
    commands = Commands(folder=folder, settings=EvalSettings())
    report = (await commands.score(CASE.name)).content
    labels = (await commands.label(CASE.name, offline=True)).content
    team = write_team(folder / f"{CASE.name}.toml", CASE.tried)
    advice = (await commands.advise(CASE.name, team)).content
    comparing = Comparing(commands, CASE.metric)
    reports = {CASE.name: report}
    tried = [
        await comparing.tried(role, fix.title, (CASE.name, _BASE), (CASE.name, arm), reports)
        for role, fix, arm in (("wrong", CASE.wrong, _ORACLE), ("right", CASE.right, _TUNED))
    ]
    return played(
        CASE,
        folder=run,
        report=report,
        labels=labels,
        advice=advice,
        tried=tuple(tried),
        versus=None,
        commands=commands,
        arm=_BASE,
    )
