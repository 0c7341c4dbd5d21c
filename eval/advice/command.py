"""`twinrail advise`: what to fix, from the labels of a run and the team file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.advice.advice import Advice, advise
from eval.advice.counts import Draws, Share
from eval.advice.deciding import Verdict
from eval.advice.effects import Basis, Effect
from eval.advice.loading import read_logs
from eval.advice.page import advice_page
from eval.advice.team import read_team
from eval.connecting import open_client
from eval.record import RunFolder
from eval.settings import EvalSettings

DONE, THIN = 0, 4
JSON_FILE, PAGE_FILE = "advice.json", "advice.html"
#: As the gateway takes it.
_LONGEST_NAME = 120

_EXAMPLE = """example:
  twinrail advise ~/.twinrail/runs/20260301-120000 --team team.toml

Writes advice.json and advice.html into the run's folder. Label the run first (`twinrail eval label RUN`).
exit codes: 0 done, 2 bad usage or team file, 4 not enough evidence (the advice says what is missing)"""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Declare the command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "advise",
        prog="twinrail advise",
        help="say what to fix: prompt, retrieval, tuning, model, or that the evidence is too thin",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="RUN")
    parser.add_argument("--team", type=Path, required=True, metavar="FILE", help="team file (TOML)")
    parser.add_argument("--send", action="store_true", help="store the advice in the gateway as a report")
    parser.add_argument("--url", help="address of the gateway [EVAL_GATEWAY_URL]")
    parser.add_argument("--dry-run", action="store_true", help="write no file, send nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    return parser


async def run(options: argparse.Namespace, settings: EvalSettings) -> int:
    """Advise, write both files, print one of them."""
    team = read_team(options.team)
    folder = RunFolder(options.folder)
    draws = Draws(resamples=settings.resamples, seed=settings.seed)
    advice = advise(read_logs(folder), team, draws)
    plain = advice.as_json()
    text = json.dumps(plain, indent=2, ensure_ascii=False)
    if not options.dry_run:
        folder.write(JSON_FILE, text + "\n")
        shown = advice_page(plain)
        page = folder.write(PAGE_FILE, shown)
        sys.stderr.write(f"twinrail advise: {page}\n")
        if options.send:
            await _send(f"advice-{advice.run}", plain, shown, options.url or settings.gateway_url, settings)
    sys.stdout.write((text if options.json else advice_text(advice)) + "\n")
    return THIN if advice.verdict is Verdict.NOT_ENOUGH else DONE


async def _send(name: str, content: Mapping[str, Any], page: str, url: str, settings: EvalSettings) -> None:
    async with open_client(settings, url=url, concurrency=1) as client:
        await client.put_report(name[:_LONGEST_NAME], kind="advice", content=content, html=page)
    sys.stderr.write(f"twinrail advise: stored at {url} as {name[:_LONGEST_NAME]}\n")


def advice_text(advice: Advice) -> str:
    """The advice for a terminal: the verdict, the order and what would change it."""
    lines = [advice.sentence, ""]
    lines += [f"{step.place}. {step.title} ({step.when}; {step.owner}): {step.why}" for step in advice.order]
    if advice.fixes:
        lines += ["", "What each fix would give:"]
        lines += [f"- {fix.title}: {_expected(fix.addresses, fix.effect)}" for fix in advice.fixes]
    if advice.choices:
        lines += ["", "Of several arms of a kind:"]
        lines += [f"- {choice.arm} stands for {choice.kind}: {choice.because}" for choice in advice.choices]
    if advice.changes:
        lines += ["", "What would change it:"]
        lines += [f"- if {change.condition}: {change.verdict}" for change in advice.changes]
    return "\n".join(lines)


def _expected(addresses: Share, effect: Effect) -> str:
    between = ""
    if effect.low is not None and effect.high is not None:
        between = f" ({effect.low * 100:+.0f} to {effect.high * 100:+.0f})"
    basis = "measured" if effect.basis is Basis.MEASURED else "at most"
    return f"addresses {addresses.k} of {addresses.n}, {basis} {effect.value * 100:+.0f} points{between}"
