"""Cases in which the obvious fix is the wrong one, played through the whole product: advice, both fixes, both measured.

    python -m bench.no_illusion [--case NAME ...] [--keep DIR] [--list]

Each case asks a live assistant, labels what failed, takes the advice, and then tries what most teams would do and what
was advised, on the same questions. Gateway, PostgreSQL with pgvector, search, embedder, labels and advice are the real
ones. The model is a stand-in that is weak in a known way (bench/illusion/stand_ins.py), but for the case `recorded`,
whose answers are of real vLLM. `--keep` keeps the run folders with the advice pages. docs/no-illusion.md tells the story.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.illusion.bank import CORPUS
from bench.illusion.cases import CASES, Ground, IllusionCase
from bench.illusion.page import PAGE, with_figures
from bench.illusion.playing import Played, Tried, play
from bench.illusion.recorded import CASE as RECORDED
from bench.illusion.recorded import play_recorded
from bench.illusion.stage import Stage, bank_stage, demo_stage
from bench.machine import describe_machine
from deploy.migrate import migrate
from deploy.postgres import EmbeddedPostgres
from deploy.provisioning import provision
from retrieval.embedding import OnnxEmbedder
from retrieval.minilm import prepare_minilm

ROOT = Path(__file__).parent.parent
OUT = Path(__file__).with_name("results") / "no_illusion.json"
KEEP = ROOT / ".twinrail" / "bench" / "no-illusion"
_HASTY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
ALL = (*CASES, RECORDED)


def playable(cases: Sequence[IllusionCase], corpus: Path = CORPUS) -> list[IllusionCase]:
    """The cases whose data is there; of the others it is said that they are left out."""
    if corpus.exists():
        return list(cases)
    for case in cases:
        if case.ground is Ground.BANK:
            print(f"{case.name}: left out, {corpus} is not there", file=sys.stderr)
    return [case for case in cases if case.ground is not Ground.BANK]


async def play_all(cases: Sequence[IllusionCase], server: EmbeddedPostgres, folder: Path) -> list[Played]:
    """One stack for each help centre."""
    found: list[Played] = []
    minilm = ROOT / ".twinrail" / "models" / "minilm"
    prepare_minilm(minilm)
    embedder = OnnxEmbedder(minilm)
    for ground in Ground:
        here = [case for case in cases if case.ground is ground]
        if not here:
            continue
        place = folder / ground
        place.mkdir()
        if ground is Ground.RECORDED:
            found.append(_said(await play_recorded(place)))
            continue
        url = provision(server.admin_url, database=f"illusion_{ground}", password=secrets.token_hex(16))
        await migrate(url)
        open_stage = demo_stage if ground is Ground.DEMO else bank_stage
        stage: AbstractAsyncContextManager[Stage] = open_stage(url, place, embedder)
        async with stage as opened:
            found += [_said(await play(case, opened)) for case in here]
    return found


def _said(played: Played) -> Played:
    print(text_of(played), end="\n\n", flush=True)
    return played


# ---- what is printed -----------------------------------------------------------------------------


def text_of(played: Played) -> str:
    """A paragraph for a case."""
    labels = ", ".join(f"{label} {k}" for label, k in played.labels.items() if k) or "none"
    fits = "" if played.as_expected else f" (EXPECTED {played.expected})"
    every = [*played.tried, *([played.right_over_wrong] if played.right_over_wrong else [])]
    lines = [
        f"{played.name}: {played.title} ({played.ground}, {played.questions} questions on {played.topics} topics)",
        f"  looks like  {played.looks_like}",
        f"  labels      {labels}",
        f"  advice      {played.verdict}{fits}: {played.sentence}",
        f"  rules       {'; '.join(f'{rule}: {verdict}' for rule, verdict in played.rules.items())}",
        f"  measured by {played.metric_title}",
        *(f"  {_tried_line(played, tried)}" for tried in every),
    ]
    return "\n".join(lines)


def _tried_line(played: Played, tried: Tried) -> str:
    change = "not compared"
    if tried.difference is not None:
        between = ""
        if tried.interval:
            between = f" [{tried.interval[0] * 100:+.0f}, {tried.interval[1] * 100:+.0f}]"
        shown = "no difference shown"
        if tried.resolved:
            shown = "better" if played.shown_better(tried) else "worse"
        change = f"{tried.difference * 100:+.0f} points{between}, {shown}"
    (k, n), (after, of) = tried.before, tried.after
    return f"{tried.role:11} {tried.title}: {k}/{n} -> {after}/{of}, {change}"


def failures_of(found: Sequence[Played]) -> list[str]:
    """What a case was to show and does not."""
    wanted = {case.name: case for case in ALL}
    broken = []
    for played in found:
        if not played.as_expected:
            broken.append(f"{played.name}: advised {played.verdict}, not {played.expected}")
        if wanted[played.name].shows_gain:
            right = next(tried for tried in played.tried if tried.role == "right")
            if not played.shown_better(right):
                broken.append(f"{played.name}: the right fix is not shown to help")
            if not played.shown_better(played.right_over_wrong):
                broken.append(f"{played.name}: the right fix is not shown to beat the wrong one")
    return broken


def json_of(found: Sequence[Played]) -> dict[str, Any]:
    """The result file's cases."""
    return {played.name: {**asdict(played), "as_expected": played.as_expected} for played in found}


def write(
    found: Sequence[Played], out: Path, *, machine: Mapping[str, Any], spent: Mapping[str, int]
) -> None:
    """The result, in which cases that were not played keep what they had, and the figures of the page."""
    known = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {"sessions": [], "cases": {}}
    cases = {**known["cases"], **json_of(found)}
    played = [each.name for each in found]
    sessions = [{"played": played, "at": machine["at"], "git": machine["git"], **spent}]
    seen = {*played}
    for session in reversed(known["sessions"]):
        # One of which nothing is left says nothing of these figures.
        if {*session["played"]} - seen:
            sessions.insert(0, session)
            seen |= {*session["played"]}
    result = {
        "machine": machine,
        "sessions": sessions,
        "cases": {case.name: cases[case.name] for case in ALL if case.name in cases},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if out == OUT:
        PAGE.write_text(with_figures(PAGE.read_text(encoding="utf-8"), result), encoding="utf-8")


# ---- the command ---------------------------------------------------------------------------------


def measure(cases: Sequence[IllusionCase], keep: Path | None) -> list[Played]:
    """On a database of its own; run folders and advice pages are kept where that is asked for."""
    # Else the server would outlive whoever ends us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="twinrail-illusion-"))
    server = EmbeddedPostgres(folder / "pg", settings=_HASTY)
    try:
        server.start()
        found = asyncio.run(play_all(cases, server, folder))
        if keep is not None:
            for played in found:
                source = folder / played.ground
                for run in source.glob(f"{played.name}*"):
                    if run.is_dir():
                        shutil.copytree(run, keep / run.name, dirs_exist_ok=True)
        return found
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the cases, write result and figures. Exit code 1 where a case does not show what it is there for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [case.name for case in ALL]
    parser.add_argument(
        "--case", action="append", choices=names, help="this case only; the others keep their result"
    )
    parser.add_argument("--list", action="store_true", help="say which cases there are")
    parser.add_argument(
        "--keep", type=Path, default=KEEP, metavar="DIR", help=f"run folders go here [{KEEP}]"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(argv)
    if args.list:
        print("\n".join(f"{case.name:12} {case.title}" for case in ALL))
        return 0
    cases = playable([case for case in ALL if not args.case or case.name in args.case])
    if not cases:
        return 0
    machine = describe_machine()
    began, worked = time.monotonic(), time.process_time()
    found = measure(cases, args.keep)
    # On a shared machine the processor's time says more than the clock's.
    spent = {"seconds": round(time.monotonic() - began), "cpu_seconds": round(time.process_time() - worked)}
    print(
        f"{spent['seconds']} s, {spent['cpu_seconds']} s of processor; advice pages: {args.keep}/CASE-before/advice.html"
    )
    broken = failures_of(found)
    for line in broken:
        print(line, file=sys.stderr)
    write(found, args.out, machine=machine, spent=spent)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
