"""What an answer costs: predicted from a few answers, against what the rest of the run then took.

    python -m bench.eval_costs                # every recorded run of bench/organic
    python -m bench.eval_costs --run DIR ...  # other runs of `twinrail eval run`

A sample of answers gives tokens, cache hits and rates, as the product takes them (`eval.advice.costs`), and so what an
answer costs. It is compared with answers that are not in it:
- engine: the time in which the engine worked for them, by the gateway's clocks, times the price of its hour;
- bill: their tokens at list prices, which is what a provider charges.
Beside the product's way for the engine stand the same with each answer's time counted in full although others were
written at once, and the rates of the demo's team file, measured on an idle machine of the same kind.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench.machine import describe_machine
from eval.advice.costs import arm_costs
from eval.advice.counts import Draws
from eval.advice.evidence import ArmLog, CaseUsage
from eval.advice.loading import usage_in
from eval.advice.team import Team, read_team
from eval.arms import ArmKind
from eval.record import RunData, RunFolder

ROOT = Path(__file__).resolve().parent
OUT = ROOT / "results" / "eval_costs.json"
DEMO_TEAM = ROOT.parent / "deploy" / "demo" / "team.toml"
AIM = 0.15
#: Answers of one arm that are known, and the fewest that have to be left to compare with.
SAMPLE, LEAST_REST = 20, 15
#: Fewer answers on either side say nothing of another run.
LEAST_ACROSS = 30
DRAWS_OF_SAMPLES = 200
SEED = 20260301
#: An hour of the engine, all of which it works; it cancels out in every error.
ENGINE = {"engine_hour": 0.12, "utilisation": 1.0}
#: Of a small hosted model, a million tokens.
LIST = {"prompt_per_million": 0.1, "cached_per_million": 0.05, "completion_per_million": 0.4}
WHOLE = "all arms"
_NO_INTERVALS = Draws(resamples=200, seed=SEED)

#: Known answers and those to compare with, each by arm.
Sides = tuple[Mapping[str, Sequence[CaseUsage]], Mapping[str, Sequence[CaseUsage]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way to predict, and what its money is measured by."""

    name: str
    #: What one answer costs, from the known ones of its arm.
    predict: Callable[[Sequence[CaseUsage]], float]
    #: What those answers did cost, in all.
    measure: Callable[[Sequence[CaseUsage]], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """How far the predictions of one way are off."""

    run: str
    arm: str
    way: str
    known: str
    #: Answers that are compared with, and draws.
    rest: int
    draws: int
    #: Signed in the middle, then how far off regardless of the side.
    bias: float
    median_error: float
    p90_error: float | None
    within_aim: float


def ways() -> tuple[Way, ...]:
    """The product's way first."""
    listed = read_team(DEMO_TEAM).prices
    rates = {
        "prompt_tokens_a_s": listed.prompt_tokens_a_s,
        "completion_tokens_a_s": listed.completion_tokens_a_s,
    }
    by_hour, by_file, by_token = _team(ENGINE), _team({**ENGINE, **rates}), _team(LIST)
    return (
        Way(name="engine", predict=lambda known: predicted(known, by_hour), measure=engine_cost),
        Way(
            name="engine, each as if alone",
            predict=lambda known: predicted([replace(each, engine_share=1.0) for each in known], by_hour),
            measure=engine_cost,
        ),
        Way(name="engine, team file", predict=lambda known: predicted(known, by_file), measure=engine_cost),
        Way(
            name="bill",
            predict=lambda known: predicted(known, by_token),
            measure=lambda rest: sum(predicted([each], by_token) for each in rest),
        ),
    )


def _team(prices: Mapping[str, Any]) -> Team:
    return Team.model_validate({"team_size": "solo", "regulated": False, "prices": dict(prices)})


def predicted(known: Sequence[CaseUsage], team: Team) -> float:
    """What the product says that prompt and output of an answer cost."""
    log = ArmLog(name="known", kind=ArmKind.RAG, rows=(), usage=tuple(known))
    layers = {layer.name: layer.amount for layer in arm_costs([log], team, _NO_INTERVALS)[0].layers}
    return (layers["prompt"] or 0.0) + (layers["output"] or 0.0)


def engine_cost(rest: Sequence[CaseUsage]) -> float:
    """What the engine's time for these answers cost."""
    worked_s = sum((each.generation_ms or 0.0) * each.engine_share for each in rest) / 1000
    return worked_s * ENGINE["engine_hour"] / 3600


def line(run: str, arm: str, way: Way, known: str, splits: Sequence[Sides]) -> Line:
    """Errors of the mean cost of an answer, over all splits."""
    errors = []
    for before, after in splits:
        answers = sum(map(len, after.values()))
        foretold = sum(way.predict(before[name]) * len(rest) for name, rest in after.items()) / answers
        errors.append(foretold / (sum(way.measure(rest) for rest in after.values()) / answers) - 1)
    off = [abs(error) for error in errors]
    return Line(
        run=run,
        arm=arm,
        way=way.name,
        known=known,
        rest=sum(map(len, splits[0][1].values())),
        draws=len(splits),
        bias=round(median(errors), 4),
        median_error=round(median(off), 4),
        p90_error=round(quantiles(off, n=10)[-1], 4) if len(off) > 1 else None,
        within_aim=round(sum(error <= AIM for error in off) / len(off), 4),
    )


def lines_of(run: str, data: RunData) -> Iterator[Line]:
    """Each arm alone, all arms on half of the questions, and the first half of the run before the second."""
    usage = usage_by_arm(data)
    half = f"{len(data.cases) // 2} questions drawn"
    for way in ways():
        for arm, answers in usage.items():
            if len(answers) >= SAMPLE + LEAST_REST:
                yield line(run, arm, way, f"{SAMPLE} answers drawn", list(_drawn(run, arm, answers)))
        yield line(run, WHOLE, way, half, list(_halved(run, usage)))
        yield line(run, WHOLE, way, "the first half", [_in_order(data, usage)])


def usage_by_arm(data: RunData) -> dict[str, tuple[CaseUsage, ...]]:
    """Answers that the engine wrote."""
    found = {
        arm.name: tuple(each for each in usage_in(data, arm.name) if each.generation_ms and each.tokens)
        for arm in data.record.arms
    }
    return {name: usage for name, usage in found.items() if len(usage) >= 2 * LEAST_REST}


def _drawn(run: str, arm: str, answers: Sequence[CaseUsage]) -> Iterator[Sides]:
    draw = random.Random(f"{SEED}/{run}/{arm}")
    for _ in range(DRAWS_OF_SAMPLES):
        shuffled = draw.sample(list(answers), len(answers))
        yield {arm: shuffled[:SAMPLE]}, {arm: shuffled[SAMPLE:]}


def _halved(run: str, usage: Mapping[str, Sequence[CaseUsage]]) -> Iterator[Sides]:
    draw = random.Random(f"{SEED}/{run}")
    questions = sorted({each.case_id for answers in usage.values() for each in answers})
    for _ in range(DRAWS_OF_SAMPLES):
        known = set(draw.sample(questions, len(questions) // 2))
        yield _split(usage, known)


def _in_order(data: RunData, usage: Mapping[str, Sequence[CaseUsage]]) -> Sides:
    first: dict[str, str] = {}
    for (case_id, _), seen in data.observations.items():
        first[case_id] = min(first.get(case_id, seen.asked_at), seen.asked_at)
    order = sorted(
        {each.case_id for answers in usage.values() for each in answers}, key=lambda case: first[case]
    )
    return _split(usage, set(order[: len(order) // 2]))


def _split(usage: Mapping[str, Sequence[CaseUsage]], known: Collection[str]) -> Sides:
    return (
        {arm: [each for each in answers if each.case_id in known] for arm, answers in usage.items()},
        {arm: [each for each in answers if each.case_id not in known] for arm, answers in usage.items()},
    )


def across(known: tuple[str, RunData], other: tuple[str, RunData]) -> Iterator[Line]:
    """One run as the sample of another one: other questions, another hour of the same machine."""
    before, after = usage_by_arm(known[1]), usage_by_arm(other[1])
    for arm in before.keys() & after.keys():
        if min(len(before[arm]), len(after[arm])) < LEAST_ACROSS:
            before.pop(arm)
    shared = sorted(before.keys() & after.keys())
    if shared:
        sides = {arm: before[arm] for arm in shared}, {arm: after[arm] for arm in shared}
        yield from (line(other[0], WHOLE, way, f"the run {known[0]}", [sides]) for way in ways())


def table(lines: Sequence[Line]) -> str:
    """The ways of one comparison beneath each other."""
    shown = [
        f"{'run':13} {'arm':10} {'known':22} {'way':25} {'rest':>5} {'bias':>7} {'off':>6} {'p90':>6} {'within':>7}"
    ]
    shown += [
        f"{each.run:13} {each.arm:10} {each.known:22} {each.way:25} {each.rest:5} {each.bias:+7.0%} "
        f"{each.median_error:6.0%} {'' if each.p90_error is None else f'{each.p90_error:.0%}':>6} "
        f"{each.within_aim:7.0%}"
        for each in sorted(lines, key=lambda each: (each.run, each.arm, each.known))
    ]
    return "\n".join(shown)


def main(argv: list[str] | None = None) -> int:
    """Predict, compare, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.eval_costs", description=__doc__)
    parser.add_argument("--run", type=Path, action="append", metavar="DIR", help="instead of bench/organic")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(argv)
    folders = args.run or sorted(path.parent for path in (ROOT / "organic").glob("*/results.jsonl"))
    runs = [(folder.name, RunFolder(folder).read()) for folder in folders]
    runs = [(name, data) for name, data in runs if usage_by_arm(data)]
    if not runs:
        raise SystemExit(f"no arm has {2 * LEAST_REST} answers that an engine wrote; name runs with --run")
    lines = [found for name, data in runs for found in lines_of(name, data)]
    lines += [found for one in runs for other in runs if one is not other for found in across(one, other)]
    print(table(lines))
    if args.run is None:
        result = {
            "machine": describe_machine(),
            "aim": AIM,
            "draws": DRAWS_OF_SAMPLES,
            "seed": SEED,
            "lines": [asdict(each) for each in lines],
        }
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
