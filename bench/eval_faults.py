"""Whether the label names the fault that was put in: at least 30 faults for each label, and two at a time.

    python -m bench.eval_faults [--split train,dev] [--only SEED,SEED] [--keep DIR]
    python -m bench.eval_faults --engine URL --model NAME [--questions 120] [--most 4]

The demo's questions are asked of the real gateway over the real knowledge rail, with a model that answers
from its passages alone (tests/fakes/responder.py). Those that are answered right take part. Then each seed of
bench/faults/seeds.py spoils documents, index, gateway or model in one way and the questions are asked again; a fault that
did no harm is not counted: the metrics find the answer right, or the model wrote what it writes without a fault. Labelling is that of `twinrail eval label --rerun`. Beside it
stands what the metrics alone say: the first of them that is not as it should be names the layer. Relabelling reads the
run folders again, without the gateway. The seeds and the rules were written by two people who knew of each other: read
the figure as "the rules do what they say", and the agreement with hand labels as how well they do on failures that
nobody made up.

With `--engine` a model on a real vLLM writes instead of the responder, so that other things than the fault may go wrong
in the same answer: printed without a bar, over the questions that the model answers right without a fault.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from bench.faults.live import Engine
from bench.faults.seeds import HARD, MIXED, NO_FAULT, SEEDS, STABLE, Seed
from bench.faults.suite import Suite, open_suite
from bench.faults.tally import (
    BAR,
    PASSED,
    Judged,
    by_seed,
    confusion,
    label_by_metrics,
    overall,
    primary_of,
    rates,
)
from bench.machine import describe_machine
from deploy.migrate import migrate
from deploy.postgres import EmbeddedPostgres
from deploy.provisioning import provision
from eval.cases import Case
from eval.labelling.labels import LabelRecord
from eval.stats import Rate
from retrieval.embedding import OnnxEmbedder
from retrieval.minilm import prepare_minilm

ROOT = Path(__file__).parent.parent
OUT = Path(__file__).with_name("results") / "eval_faults.json"
LIVE_OUT = OUT.with_name("eval_faults_live.json")
_HASTY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
#: Records that are labelled again.
RELABELLED = 200
#: What the rules were made with. The holdout is for release decisions.
SPLITS = "train,dev"


@dataclass(slots=True, kw_only=True)
class Found:
    """Everything that was seen."""

    asked: int = 0
    passing: int = 0
    #: Of the answers without a fault, those that got a label.
    false_alarms: list[str] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)
    #: Faults that did no harm, by seed.
    harmless: Counter[str] = field(default_factory=Counter)
    #: Faults whose cause was open before the re-runs.
    open_before: int = 0
    relabelled: int = 0
    changed: int = 0
    seconds: float = 0.0

    @property
    def single(self) -> list[Judged]:
        """Faults of one kind."""
        return [
            each for each in self.judged if each.fault.seed.contributing is None and not each.fault.seed.hard
        ]

    @property
    def hard(self) -> list[Judged]:
        """Those that no check claims to see."""
        return [each for each in self.judged if each.fault.seed.hard]

    @property
    def mixed(self) -> list[Judged]:
        """Two at a time."""
        return [each for each in self.judged if each.fault.seed.contributing is not None]


async def run_suite(
    suite: Suite, cases: Sequence[Case], seeds: Sequence[Seed], *, most: int | None = None
) -> Found:
    """Every seed on its questions, at most `most` each; those that change the index first."""
    began = time.monotonic()
    found = Found(asked=len(cases))
    passing = await suite.passing(cases)
    found.passing = len(passing)
    records = await suite.label(NO_FAULT, rerun=False)
    found.false_alarms = [
        f"{case.id}: {primary_of(records[case.id])}"
        for case in passing
        if primary_of(records[case.id]) != PASSED
    ]
    chosen = {seed: seed.choose(passing, most) for seed in seeds}
    for seed, its_cases in chosen.items():
        suite.expect(seed, its_cases)
    for seed in sorted(seeds, key=lambda seed: seed.index == STABLE):
        if seed.index == STABLE:
            await suite.retire_indexes()
        await _put_in(suite, seed, chosen[seed], found)
    for seed in seeds:
        _relabel(suite, seed, found)
    found.seconds = time.monotonic() - began
    return found


async def _put_in(suite: Suite, seed: Seed, chosen: Sequence[Case], found: Found) -> None:
    if not chosen:
        return
    faults = await suite.put_in(seed, chosen)
    before = await suite.label(seed, rerun=False)
    records = await suite.label(seed)
    for fault in faults:
        if not fault.taken:
            found.harmless[seed.name] += 1
            continue
        found.open_before += primary_of(before[fault.case.id]) == "undetermined"
        found.judged.append(
            Judged(
                fault=fault,
                record=records[fault.case.id],
                by_metrics=label_by_metrics(fault.scores),
            )
        )
    print(f"{seed.name}: {len(faults)} asked", file=sys.stderr, flush=True)


def _relabel(suite: Suite, seed: Seed, found: Found) -> None:
    """Once more from the folder; a record that is not the same in every byte is a change."""
    known = {each.fault.case.id: each.record for each in found.judged if each.fault.seed is seed}
    wanted = list(known)[: RELABELLED - found.relabelled]
    if not wanted:
        return
    again = suite.relabel(seed)
    found.relabelled += len(wanted)
    found.changed += sum(_bytes(known[case_id]) != _bytes(again[case_id]) for case_id in wanted)


def _bytes(record: LabelRecord) -> bytes:
    return json.dumps(record.as_json(), sort_keys=True).encode()


# ---- what is printed -----------------------------------------------------------------------------


def text_of(found: Found, *, bar: bool = True) -> str:
    """The tables."""
    lines = [
        f"{found.passing} of {found.asked} questions are answered right without a fault",
        f"{len(found.false_alarms)} of those got a label all the same",
        "",
        f"{'label put in':20} {'right':>9} {'95 % interval':>17} {'metrics alone':>14} {'ratio':>6}",
    ]
    if whole := overall(found.single):
        table = {**rates(found.single), "all": whole}
        lines += [f"{label:20} {_both(ours, metrics)}" for label, (ours, metrics) in table.items()]
        if bar:
            lines += ["", f"bar: {BAR:.0%} right over all labels: {'met' if meets_bar(found) else 'missed'}"]
        lines += ["", *_matrix(confusion(found.single))]
    else:
        lines.append("no single fault within the checks took hold, so there is no share")
    if found.mixed:
        lines += ["", f"{'two at a time':28} {'primary':>9} {'and second':>11}"]
        lines += [
            f"{name:28} {_of(sum(each.is_right for each in of_seed), len(of_seed)):>9} "
            f"{_of(sum(each.names_both for each in of_seed), len(of_seed)):>11}"
            for name, of_seed in _by_name(found.mixed).items()
        ]
        first, both = (
            Rate(k=sum(values), n=len(found.mixed))
            for values in (
                [each.is_right for each in found.mixed],
                [each.names_both for each in found.mixed],
            )
        )
        lines.append(f"{'all':28} {_of(first.k, first.n):>9} {_of(both.k, both.n):>11}")
    if found.hard:
        right = sum(each.is_right for each in found.hard)
        lines += ["", f"beyond the checks, not in the figure: {_of(right, len(found.hard))} right"]
        lines += [f"  {name}: {dict(row)}" for name, row in by_seed(found.hard).items()]
    lines += [
        "",
        f"open before the re-runs: {found.open_before} of {len(found.judged)}",
        f"relabelled from the folders: {found.changed} of {found.relabelled} changed",
        f"no harm done by {sum(found.harmless.values())} faults, which count nowhere",
        f"{found.seconds:.0f} s",
    ]
    return "\n".join(lines)


def meets_bar(found: Found) -> bool:
    """Whether enough labels are right; where no single fault took hold there is nothing to miss it."""
    whole = overall(found.single)
    return whole is None or whole[0].value >= BAR


def _both(ours: Rate, metrics: Rate) -> str:
    interval = f"{ours.interval.low:.1%} to {ours.interval.high:.1%}"
    ratio = f"{ours.k / metrics.k:.1f}" if metrics.k else "-"
    return f"{_of(ours.k, ours.n):>9} {interval:>17} {_of(metrics.k, metrics.n):>14} {ratio:>6}"


def _of(k: int, n: int) -> str:
    return f"{k}/{n}"


def _matrix(table: Mapping[str, Counter[str]]) -> list[str]:
    columns = list(dict.fromkeys([*table, *(name for row in table.values() for name in row)]))
    head = " ".join(f"{name[:9]:>9}" for name in columns)
    return [
        f"{'put in, came out':20} {head}",
        *(
            f"{name:20} " + " ".join(f"{row[column] or '.':>9}" for column in columns)
            for name, row in table.items()
        ),
    ]


def _by_name(judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    table: dict[str, list[Judged]] = {}
    for each in judged:
        table.setdefault(each.fault.seed.name, []).append(each)
    return table


def wrong_of(found: Found) -> list[dict[str, Any]]:
    """Every fault with a wrong primary label, with what a person needs to see why."""
    return [
        {
            "seed": each.fault.seed.name,
            "case": each.fault.case.id,
            "put_in": each.fault.seed.label,
            "came_out": each.primary,
            "rule": each.record.primary.rule if each.record.primary else "",
            "checks": {check.name: check.value for check in each.record.checks},
            "question": each.fault.case.text,
            "answer": each.fault.seen.answer,
        }
        for each in found.judged
        if not each.is_right and not each.fault.seed.hard
    ]


def json_of(found: Found) -> dict[str, Any]:
    """The result file."""
    whole = overall(found.single)
    return {
        "asked": found.asked,
        "passing_without_a_fault": found.passing,
        "false_alarms": found.false_alarms,
        "labels": {label: _rates_json(*both) for label, both in rates(found.single).items()},
        "all": _rates_json(*whole) if whole else None,
        "confusion": confusion(found.single),
        "seeds": by_seed(found.single),
        "mixed": {
            name: {
                "n": len(of_seed),
                "primary_right": sum(each.is_right for each in of_seed),
                "both_right": sum(each.names_both for each in of_seed),
                "primary": dict(Counter(each.primary for each in of_seed)),
            }
            for name, of_seed in _by_name(found.mixed).items()
        },
        "beyond_the_checks": by_seed(found.hard),
        "criteria": sorted({each.record.criteria for each in found.judged}),
        "open_before_reruns": found.open_before,
        "relabelled": found.relabelled,
        "changed": found.changed,
        "harmless": dict(found.harmless),
        "seconds": round(found.seconds),
        "wrong": wrong_of(found),
    }


def _rates_json(ours: Rate, metrics: Rate) -> dict[str, Any]:
    return {"right": ours.k, "n": ours.n, "interval": _interval(ours), "by_metrics": metrics.k}


def _interval(rate: Rate) -> list[float]:
    return [round(rate.interval.low, 4), round(rate.interval.high, 4)]


# ---- the command ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A model on a real engine, and how much of it one run may ask."""

    url: str
    model: str
    questions: int
    #: Questions of a seed.
    most: int
    kept: Path


async def measure(
    seeds: Sequence[Seed], splits: Sequence[str], keep: Path | None, live: Live | None = None
) -> Found:
    """On a database of its own; the run folders are copied to `keep`."""
    folder = Path(tempfile.mkdtemp(prefix="twinrail-faults-"))
    server = EmbeddedPostgres(folder / "pg", settings=_HASTY)
    try:
        server.start()
        url = provision(server.admin_url, database="faults", password=secrets.token_hex(16))
        await migrate(url)
        minilm = ROOT / ".twinrail" / "models" / "minilm"
        prepare_minilm(minilm)
        async with AsyncExitStack() as stack:
            given: dict[str, Any] = {}
            if live is not None:
                session = await stack.enter_async_context(aiohttp.ClientSession())
                complete = Engine(live.url, live.model, session, live.kept).complete
                given = {"complete": complete, "answer_timeout_s": 290.0, "concurrency": 8}
            suite = await stack.enter_async_context(open_suite(url, folder, OnnxEmbedder(minilm), **given))
            cases = [case for case in suite.cases.values() if case.split in splits]
            if live is not None:
                cases = drawn(cases, live.questions)
            found = await run_suite(suite, cases, seeds, most=live.most if live else None)
        if keep is not None:
            shutil.copytree(folder / "runs", keep, dirs_exist_ok=True)
        return found
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def drawn(cases: Sequence[Case], most: int) -> list[Case]:
    """The same ones each time, of all topics."""
    return sorted(cases, key=lambda case: hashlib.sha256(f"live {case.id}".encode()).digest())[:most]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables, write the result; exit code 1 where the bar is missed or relabelling changed anything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="SEED,SEED", help="some seeds only; writes no result")
    parser.add_argument("--split", default=SPLITS, metavar="A,B", help=f"questions to ask [{SPLITS}]")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the run folders here")
    parser.add_argument("--engine", metavar="URL", help="a vLLM that writes instead of the responder")
    parser.add_argument("--model", metavar="NAME", help="with --engine: a model that it lists")
    parser.add_argument("--questions", type=int, default=120, metavar="N", help="with --engine [120]")
    parser.add_argument("--most", type=int, default=4, metavar="N", help="with --engine: questions of a seed")
    parser.add_argument(
        "--replies", type=Path, metavar="DIR", help="with --engine: what it wrote is kept here"
    )
    parser.add_argument("--out", type=Path, help=f"[{OUT.name}, with --engine {LIVE_OUT.name}]")
    args = parser.parse_args(argv)
    seeds = [*SEEDS, *MIXED, *HARD]
    if args.only:
        wanted = args.only.split(",")
        unknown = set(wanted) - {seed.name for seed in seeds}
        if unknown:
            parser.error(f"--only: no seed is called {', '.join(sorted(unknown))}")
        seeds = [seed for seed in seeds if seed.name in wanted]
    if bool(args.engine) != bool(args.model):
        parser.error("--engine and --model belong together: give the address and a name that it lists")
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="twinrail-replies-") as replies:
        live = args.engine and Live(
            url=args.engine,
            model=args.model,
            questions=args.questions,
            most=args.most,
            kept=args.replies or Path(replies),
        )
        found = asyncio.run(measure(seeds, args.split.split(","), args.keep, live or None))
    print(text_of(found, bar=not live))
    for each in wrong_of(found):
        print(f"  {each['seed']} {each['case']}: {each['came_out']} by {each['rule'] or 'no rule'}")
    if not args.only:
        out = args.out or (LIVE_OUT if live else OUT)
        out.parent.mkdir(parents=True, exist_ok=True)
        result = {"machine": machine, "split": args.split, "model": args.model, **json_of(found)}
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if live:
        return 0
    return 0 if meets_bar(found) and not found.changed else 1


if __name__ == "__main__":
    sys.exit(main())
