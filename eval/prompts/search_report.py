"""A search in words: every round's table, what decided, what the best is worth on fresh questions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from eval.metrics import METRICS
from eval.prompts.grid import CURRENT
from eval.prompts.halving import Standing
from eval.prompts.record import SearchRecord
from eval.report import Table, as_markdown, as_text, number, rate
from eval.stats import Rate
from serving.prompting import PromptTemplate
from serving.versions import prompt_definition

BEST_FILE, REPORT_FILE = "best.yaml", "search.md"

_METRIC = {metric.name: metric for metric in METRICS}


def search_text(record: SearchRecord, folder: Path) -> str:
    """For a terminal."""
    parts = [as_text(table) for table in _tables(record)]
    return "\n\n".join([*parts, *_sentences(record, folder)]) + "\n"


def search_markdown(record: SearchRecord, folder: Path) -> str:
    """For whoever reads it later."""
    parts = [f"# Prompts searched in {folder.name}", *_sentences(record, folder)]
    parts += [f"## {table.title}\n\n{as_markdown(table)}" for table in _tables(record)]
    return "\n\n".join(parts) + "\n"


def search_json(record: SearchRecord, folder: Path) -> dict[str, Any]:
    """For programs."""
    return {**record.as_json(), "best_file": str(folder / BEST_FILE) if record.best != CURRENT else None}


def prompt_file(prompt: PromptTemplate, record: SearchRecord) -> str:
    """The prompt as `serving.prompting.load_prompt` reads it."""
    head = (
        f"# Best of {len(record.candidates)} prompts on {record.rounds[-1].questions} questions of "
        f"{Path(record.question_set).name} ({record.objective}), in the arm {record.requested_arm.name}.\n"
    )
    definition = prompt_definition(prompt)
    return head + yaml.safe_dump(definition, sort_keys=False, allow_unicode=True, width=100)


def _tables(record: SearchRecord) -> Iterable[Table]:
    for place, done in enumerate(record.rounds, start=1):
        last = place == len(record.rounds)
        yield Table(
            title=f"Round {place}: {len(done.standings)} prompts, {done.questions} questions",
            header=(
                "",
                _METRIC[record.objective].title,
                "format valid",
                "draft unsupported",
                "prompt tokens",
                "",
            ),
            rows=tuple(
                (*_row(one, record.objective), _fate(one.name, done.kept, record.best if last else ""))
                for one in done.standings
            ),
        )
    if found := record.confirmed:
        yield Table(
            title=f"On {found.questions} questions that took no part in the choice",
            header=(
                "",
                _METRIC[record.objective].title,
                "format valid",
                "draft unsupported",
                "prompt tokens",
            ),
            rows=(_row(found.current, record.objective), _row(found.best, record.objective)),
        )


def _row(one: Standing, objective: str) -> tuple[str, ...]:
    # What the metric's title says, which of mistakes is the part that is not right.
    k = one.right if _METRIC[objective].higher_is_better else one.scored - one.right
    return (
        one.name,
        rate(Rate(k=k, n=one.scored)) if one.scored else f"no score: {one.lost or 'does not apply'}",
        _percent(one.format_valid),
        _percent(one.hallucination_draft),
        number(one.prompt_tokens),
    )


def _fate(name: str, kept: tuple[str, ...], best: str) -> str:
    if best:
        return "best" if name == best else ""
    return "there already" if name == CURRENT else "goes on" if name in kept else "dropped"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _sentences(record: SearchRecord, folder: Path) -> Iterable[str]:
    done = record.rounds[-1]
    yield (
        f"{len(record.candidates)} prompts were tried in {record.arm.name} "
        f"({record.arm.pin}); the best on {done.questions} questions is {record.best}."
    )
    ties = [f"round {place} by: {each.tie}" for place, each in enumerate(record.rounds, start=1) if each.tie]
    if ties:
        yield f"The objective did not tell prompts apart at every cut; decided in {', '.join(ties)}."
    if record.best == CURRENT:
        yield "The prompt that the model version has is not beaten: keep it."
        return
    if record.confirmed:
        yield f"On questions that took no part in the choice: {record.confirmed.sentence}"
    else:
        yield "No question was left to confirm the choice on: read its share as too good."
    if record.confirmed and (record.confirmed.difference or 0.0) < 0:
        yield "It came out worse there than the current prompt: keep that one, or search with more questions."
        return
    yield (
        f"Try it: twinrail eval run --arm searched={_retried(record)},prompt:{folder / BEST_FILE}\n"
        f"Keep it: twinrail model register --name searched --schema support_answer --prompt "
        f"{folder / BEST_FILE} --budget-tokens 1000"
    )


def _retried(record: SearchRecord) -> str:
    pin = record.requested_arm.pin
    return ",".join(f"{name}:{value}" for name, value in pin.as_body().items() if name != "prompt")
