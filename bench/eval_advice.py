"""Whether the advice is right where the cause is known, and silent where there is too little to know it.

    python -m bench.eval_advice [--seeds 3]

Small worlds with one right answer each (bench/advice_logs.py) make logs of several sizes, with wrong labels among the
right ones. Beside the advice stand two rules that people use: the layer of the commonest label, and the framework's
"most failures" rule, both without floor, intervals, arms or team. Random worlds follow, without one right answer: of
them only promises are checked, as training never being advised below its conditions.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

from bench.advice_logs import LARGE, SOLO, STARTUP, UNTRIED, Log, World, catalogue, make_logs
from bench.machine import describe_machine
from eval.advice.advice import Advice, advise
from eval.advice.counts import FLOOR_QUESTIONS, Draws
from eval.advice.deciding import TRAINS, Verdict
from eval.advice.eligibility import LEAST_ROWS, Standing
from eval.advice.evidence import LADDER, Logs
from eval.advice.layers import Fix, Layer, layer_of
from eval.arms import ArmKind

RESULT = Path(__file__).parent / "results" / "eval_advice.json"
Rule = Callable[[Logs], str]
_DRAWS = Draws(resamples=1000, seed=20260301)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables and write bench/results/eval_advice.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="times that the catalogue is drawn anew [3]")
    parser.add_argument("--random", type=int, default=300, help="random worlds [300]")
    parser.add_argument("--draws", type=int, default=25, help="logs for each point of the curve [25]")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args(argv)
    machine = describe_machine()
    logs = [log for seed in range(args.seeds) for log in catalogue(20260301 + 10_000 * seed)]
    spent: list[float] = []
    advices = [_timed(log, spent) for log in logs]
    rules: dict[str, Sequence[str]] = {
        "advice": [advice.verdict for advice in advices],
        "commonest label": [commonest_label(log.logs) for log in logs],
        "most failures": [most_failures(log.logs) for log in logs],
    }
    result = {
        "machine": machine,
        "logs": len(logs),
        "rules": {name: _figures(logs, verdicts) for name, verdicts in rules.items()},
        "median_ms": round(median(spent) * 1000, 1),
        "wrong": [
            {"log": log.name, "expected": log.expected, "advice": advice.verdict, "sentence": advice.sentence}
            for log, advice in zip(logs, advices, strict=True)
            if advice.verdict != log.expected
        ],
        "near_the_thresholds": _curve(args.draws),
        "random_worlds": _promises(args.random),
    }
    _show(result)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def _timed(log: Log, spent: list[float]) -> Advice:
    began = time.perf_counter()
    advice = advise(log.logs, log.team, _DRAWS)
    spent.append(time.perf_counter() - began)
    return advice


# ---- rules to stand beside ---------------------------------------------------------------------

_BY_LAYER = {
    Layer.KNOWLEDGE: Verdict.RAG,
    Layer.RETRIEVAL: Verdict.IMPROVED_RAG,
    Layer.GROUNDING: Verdict.PROMPT,
    Layer.BEHAVIOUR: Verdict.FINE_TUNE,
    Layer.REASONING: Verdict.STRONGER_MODEL,
    Layer.POLICY: Verdict.PROMPT,
    Layer.UNKNOWN: Verdict.NOT_ENOUGH,
}


def commonest_label(logs: Logs) -> str:
    """What the label says that most failures of the last rung have."""
    layers = Counter(_layers(logs))
    return str(_BY_LAYER[layers.most_common(1)[0][0]]) if layers else str(Verdict.PROMPT)


def most_failures(logs: Logs) -> str:
    """The framework's section 8: most are facts, most are behaviour, both, or reasoning."""
    layers = Counter(_layers(logs))
    total = layers.total()
    if not total:
        return str(Verdict.PROMPT)
    facts = layers[Layer.KNOWLEDGE] + layers[Layer.RETRIEVAL]
    behaviour = layers[Layer.BEHAVIOUR]
    rag = Verdict.IMPROVED_RAG if logs.of_kind(ArmKind.RAG) else Verdict.RAG
    if facts > total / 2:
        return str(rag)
    if behaviour > total / 2:
        return str(Verdict.FINE_TUNE)
    if layers[Layer.REASONING] > total / 2:
        return str(Verdict.STRONGER_MODEL)
    return str(Verdict.HYBRID if facts and behaviour else rag if facts else Verdict.PROMPT)


def _layers(logs: Logs) -> Iterator[Layer]:
    arm = next((arm for kind in reversed(LADDER) if (arm := logs.of_kind(kind))), None)
    for row in arm.decided if arm else ():
        layer = layer_of(row, arm.kind)
        if layer is not None:
            yield layer


# ---- near the thresholds -----------------------------------------------------------------------


def _curve(draws: int) -> list[dict[str, object]]:
    """How often each verdict is given as searches miss more often: where the advice changes its mind, and how soon."""
    points: list[dict[str, object]] = []
    for questions in (60, 120, 300):
        for miss in (0.01, 0.04, 0.07, 0.1, 0.15, 0.25):
            world = World(
                questions=questions, arms=(ArmKind.RAG, ArmKind.ORACLE), retrieval_miss=miss, noise=0.05
            )
            given = Counter(
                str(advise(make_logs(world, number), STARTUP, Draws(resamples=200, seed=1)).verdict)
                for number in range(draws)
            )
            points.append(
                {"questions": questions, "searches_miss": miss, "verdicts": dict(sorted(given.items()))}
            )
    return points


# ---- promises ----------------------------------------------------------------------------------


def _promises(worlds: int) -> dict[str, object]:
    """Random worlds: what must hold whatever they hold."""
    draw = random.Random(7)
    broken: list[str] = []
    verdicts: Counter[str] = Counter()
    for number in range(worlds):
        world, team = _random_world(draw), draw.choice((STARTUP, LARGE, SOLO, UNTRIED))
        advice = advise(make_logs(world, number), team, _DRAWS)
        verdicts[str(advice.verdict)] += 1
        eligible = [each for each in advice.eligibility if each.standing is Standing.ELIGIBLE]
        answered = advice.power.questions
        for promise, kept in {
            "no verdict below the floor": answered >= FLOOR_QUESTIONS or advice.verdict is Verdict.NOT_ENOUGH,
            "training only for what is eligible": advice.verdict not in TRAINS or bool(eligible),
            "nothing is eligible below the rows": not eligible or answered >= LEAST_ROWS,
            "no training without an owner": advice.verdict not in TRAINS or team.can_tune,
            "abstaining says what is missing": advice.verdict is not Verdict.NOT_ENOUGH or bool(advice.needs),
            "retrieval before tuning": _retrieval_first(advice),
        }.items():
            if not kept:
                broken.append(f"{promise}: world {number}")
    return {"worlds": worlds, "verdicts": dict(sorted(verdicts.items())), "broken_promises": broken}


def _retrieval_first(advice: Advice) -> bool:
    places = {step.fix: step.place for step in advice.order}
    tune = places.get(Fix.TUNE)
    return tune is None or all(place <= tune for place in places.values())


def _random_world(draw: random.Random) -> World:
    def share() -> float:
        return draw.choice((0.0, 0.0, 0.02, 0.06, 0.12, 0.3))

    arms = draw.choice(
        (
            (ArmKind.PROMPT,),
            (ArmKind.RAG,),
            (ArmKind.PROMPT, ArmKind.RAG),
            (ArmKind.RAG, ArmKind.ORACLE),
            (ArmKind.PROMPT, ArmKind.RAG, ArmKind.ORACLE, ArmKind.HYBRID),
            (ArmKind.RAG, ArmKind.RAG_PLUS, ArmKind.ORACLE),
        )
    )
    return World(
        questions=draw.choice((10, 40, 60, 120, 250)),
        clusters=draw.choice((1, 2, 4, 12)),
        arms=arms,
        needs_document=draw.choice((0.0, 0.5)),
        missing_document=share(),
        stale_document=share(),
        retrieval_miss=share(),
        bad_format=share(),
        wrong_tone=share(),
        over_abstain=share(),
        weak_reasoning=share(),
        ungrounded=share(),
        policy=draw.choice((0.0, 0.0, 0.02)),
        unexplained=share() / 3,
        lost=share() / 3,
        noise=draw.choice((0.0, 0.1, 0.2)),
    )


# ---- figures -----------------------------------------------------------------------------------


def _figures(logs: Sequence[Log], verdicts: Sequence[str]) -> dict[str, object]:
    """Right of all, of those above and below the floor, and by the verdict that is right."""
    found: dict[str, list[bool]] = defaultdict(list)
    for log, verdict in zip(logs, verdicts, strict=True):
        right = verdict == log.expected
        found["all"].append(right)
        found["below the floor" if log.below_floor else "above the floor"].append(right)
        if not log.below_floor:
            found[log.expected].append(right)
    return {name: {"right": sum(rights), "of": len(rights)} for name, rights in found.items()}


def _show(result: dict) -> None:  # type: ignore[type-arg]
    rules = result["rules"]
    parts = list(rules["advice"])
    print(f"{'':24}" + "".join(f"{name:>20}" for name in rules) + f"{'advice / best other':>22}")
    for part in parts:
        shares = {name: figures[part]["right"] / figures[part]["of"] for name, figures in rules.items()}
        other = max(share for name, share in shares.items() if name != "advice")
        cells = "".join(
            f"{figures[part]['right']:>12} of {figures[part]['of']:>4}" for figures in rules.values()
        )
        ratio = f"{shares['advice'] / other:.2f}" if other else "-"
        print(f"{part:24}{cells}{ratio:>22}")
    print(
        f"\n{result['logs']} logs, median {result['median_ms']} ms an advice; wrong: {len(result['wrong'])}"
    )
    for wrong in result["wrong"]:
        print(f"  {wrong['log']}: {wrong['expected']}, got {wrong['advice']}")
    print("\nsearches miss   questions   verdicts")
    for point in result["near_the_thresholds"]:
        print(f"{point['searches_miss']:>13.0%}{point['questions']:>12}   {point['verdicts']}")
    worlds = result["random_worlds"]
    print(
        f"{worlds['worlds']} random worlds: {worlds['verdicts']}; broken promises: {len(worlds['broken_promises'])}"
    )
    for promise in worlds["broken_promises"]:
        print(f"  {promise}")


if __name__ == "__main__":
    raise SystemExit(main())
