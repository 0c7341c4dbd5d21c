"""How often the gate lets a candidate pass that is no better, and how often it catches one that is worse.

    python -m bench.eval_gates [--rounds 200]

Each round is one whole decision of `eval.gating`, with its defaults but for the primaries, on 100 questions:

- A/A, real: marks of two arms of a run of the demo's holdout (bench/gates/demo_holdout.json), drawn by topic with
  replacement; in every other topic, at random, the arms are exchanged. So nothing is better, while questions move as
  often and as much together as they really do. Three primaries.
- A/A, sampled twice: one model asked twice: a question that it can do is right 97 times of 100, one that it cannot
  3 times. What it can do depends on the topic. One primary, and three.
- A/A, crowded: the same with five topics of twenty questions, which move together in threes.
- 20 points worse: real marks of `gold_in_prompt` drawn as above; 4 % of questions move either way, and so many fail
  besides that 20 points are lost on average: any question, or topic by topic. Caught is refused, not merely not passed.
- 20 and 10 points better: the same the other way, to see what the strictness costs.
- 5 points worse, 300 questions, under the goal `not_worse`: a candidate that lies on the margin must seldom pass.

Beside it, on the same questions: a raw threshold as gates of pass rates have it (the candidate's rate of the first
primary is at least the stable one's; or at most 5 points below), and the exact test alone (some primary better at
p < 0.05, none worse), without Holm and topics.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.machine import describe_machine
from eval.cases import Case
from eval.gating.gates import decide
from eval.gating.rules import GateRules
from eval.gating.sides import METRIC, match
from eval.gating.verdicts import Verdict
from eval.stats import Rate, mcnemar
from tests.fakes.gate_sides import Marks, evidence

REPOSITORY = Path(__file__).parent.parent
MARKS = REPOSITORY / "bench/gates/demo_holdout.json"
SEED = 20260301
RESAMPLES = 2000
REAL = ("answer_right", "tone_kept", "hallucination_served")
ONE = ("answer_right",)
THREE = ("answer_right", "tone_kept", "citations_valid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One pair of arms on the same questions."""

    cases: tuple[Case, ...]
    stable: Marks
    candidate: Marks


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A situation whose truth is known."""

    name: str
    truth: str
    primaries: tuple[str, ...]
    draw: Callable[[np.random.Generator], Draw]
    goal: str = "better"


@dataclass(slots=True, kw_only=True)
class Tally:
    """How many rounds ended how."""

    rounds: int
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    at_least_stable: int = 0
    at_most_five_below: int = 0
    exact_alone: int = 0

    def row(self) -> dict[str, object]:
        """Shares with their intervals."""
        return {
            "rounds": self.rounds,
            "pass": _share(self.verdicts[Verdict.PASS], self.rounds),
            "refused": _share(self.verdicts[Verdict.REFUSED], self.rounds),
            "not_enough": _share(self.verdicts[Verdict.NOT_ENOUGH], self.rounds),
            "alternatives_pass": {
                "rate at least the stable one's": _share(self.at_least_stable, self.rounds),
                "rate at most 5 points below": _share(self.at_most_five_below, self.rounds),
                "exact test alone": _share(self.exact_alone, self.rounds),
            },
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Run every scenario, print the table, and write bench/results/eval_gates.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench/results/eval_gates.json")
    args = parser.parse_args(argv)
    machine = describe_machine()
    print(
        f"{'':42} {'pass':>18} {'refused':>18} {'not enough':>18} | passes by: >= stable, >= -5, exact test alone"
    )
    rows = {}
    for place, scenario in enumerate(scenarios()):
        tally = measure(scenario, rounds=args.rounds, seed=SEED + place)
        rows[scenario.name] = {"truth": scenario.truth, "primaries": scenario.primaries, **tally.row()}
        cells = [f"{_cell(tally.verdicts[verdict], args.rounds):>18}" for verdict in Verdict]
        others = (tally.at_least_stable, tally.at_most_five_below, tally.exact_alone)
        print(
            f"{scenario.name:42} {' '.join(cells)} | {', '.join(f'{count / args.rounds:.0%}' for count in others)}",
            flush=True,
        )
    args.out.write_text(json.dumps({"machine": machine, "seed": SEED, "scenarios": rows}, indent=1) + "\n")
    return 0


def measure(scenario: Scenario, *, rounds: int, seed: int) -> Tally:
    """Decide so many times, each on questions of its own."""
    rules = GateRules.model_validate(
        {"primaries": scenario.primaries, "goal": scenario.goal, "guards": {}, "limits": {}}
    )
    random = np.random.default_rng(seed)
    tally = Tally(rounds=rounds)
    for _ in range(rounds):
        draw = scenario.draw(random)
        found = evidence(draw.stable, draw.candidate, draw.cases)
        decision = decide(found, rules, min_questions=30, resamples=RESAMPLES, seed=SEED)
        tally.verdicts[decision.verdict] += 1
        matched = [
            match(METRIC[name], found.stable, found.candidate, draw.cases) for name in scenario.primaries
        ]
        first = matched[0].pairs
        difference = sum(pair.second - pair.first for pair in first) / len(first)
        tally.at_least_stable += difference >= 0
        tally.at_most_five_below += difference >= -0.05
        tests = [mcnemar(each.pairs) for each in matched]
        better = any(test.p < 0.05 and test.only_second > test.only_first for test in tests)
        worse = any(test.p < 0.05 and test.only_second < test.only_first for test in tests)
        tally.exact_alone += not worse and (better or scenario.goal == "not_worse")
    return tally


def scenarios() -> list[Scenario]:
    """Every situation, with what is true in it."""
    real = json.loads(MARKS.read_text(encoding="utf-8"))
    topics, arms = real["topics"], real["arms"]

    def exchanged(random: np.random.Generator) -> Draw:
        return _exchanged(random, topics, arms["prompt_only"], arms["rag_tuned"], metrics=REAL)

    def moved(points: int, *, n: int = 100, by_topic: bool = False) -> Callable[[np.random.Generator], Draw]:
        known = [place for place, mark in enumerate(arms["rag_tuned"]["gold_in_prompt"]) if mark != "-"]
        marks = "".join(arms["rag_tuned"]["gold_in_prompt"][place] for place in known)
        of = [topics[place] for place in known]
        return lambda random: _moved(random, of, marks, points=points, n=n, by_topic=by_topic)

    equal, worse = "no difference", "20 points worse"
    return [
        Scenario(name="A/A, real, 3 primaries", truth=equal, primaries=REAL, draw=exchanged),
        Scenario(name="A/A, sampled twice, 1 primary", truth=equal, primaries=ONE, draw=_twice(ONE)),
        Scenario(name="A/A, sampled twice, 3 primaries", truth=equal, primaries=THREE, draw=_twice(THREE)),
        Scenario(name="A/A, crowded in 5 topics", truth=equal, primaries=ONE, draw=_crowded(topics=5)),
        Scenario(name="A/A, crowded in 10 topics", truth=equal, primaries=ONE, draw=_crowded(topics=10)),
        Scenario(name="20 points worse, any topic", truth=worse, primaries=ONE, draw=moved(-20)),
        Scenario(
            name="20 points worse, topic by topic", truth=worse, primaries=ONE, draw=moved(-20, by_topic=True)
        ),
        Scenario(name="20 points better", truth="20 points better", primaries=ONE, draw=moved(20)),
        Scenario(name="10 points better", truth="10 points better", primaries=ONE, draw=moved(10)),
        Scenario(
            name="5 points worse, 300, goal not_worse",
            truth="5 points worse, which is the margin",
            primaries=ONE,
            draw=moved(-5, n=300),
            goal="not_worse",
        ),
        Scenario(
            name="the same, topic by topic",
            truth="5 points worse, which is the margin",
            primaries=ONE,
            draw=moved(-5, n=300, by_topic=True),
            goal="not_worse",
        ),
        Scenario(
            name="no difference, 300, goal not_worse",
            truth=equal,
            primaries=ONE,
            draw=moved(0, n=300),
            goal="not_worse",
        ),
    ]


def _by_topic(random: np.random.Generator, topics: Sequence[str], n: int) -> tuple[list[int], list[int]]:
    """Places of n questions, whole topics drawn with replacement, and the number of the draw of each."""
    members: dict[str, list[int]] = {}
    for place, topic in enumerate(topics):
        members.setdefault(topic, []).append(place)
    names = sorted(members)
    places: list[int] = []
    drawn: list[int] = []
    topics_drawn = 0
    while len(places) < n:
        chosen = members[names[random.integers(len(names))]]
        drawn += [topics_drawn] * len(chosen)
        places += chosen
        topics_drawn += 1
    return places[:n], drawn[:n]


def _cases(drawn: Sequence[int]) -> tuple[Case, ...]:
    return tuple(
        Case(id=f"q{number:03d}", topic=f"t{topic:02d}", split="gate", text="")
        for number, topic in enumerate(drawn)
    )


def _exchanged(
    random: np.random.Generator, topics: Sequence[str], first: Marks, second: Marks, *, metrics: Sequence[str]
) -> Draw:
    places, drawn = _by_topic(random, topics, 100)
    exchange = random.random(max(drawn) + 1) < 0.5
    sides: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for metric in metrics:
        pairs = [(first[metric][place], second[metric][place]) for place in places]
        turned = [pair[::-1] if exchange[topic] else pair for pair, topic in zip(pairs, drawn, strict=True)]
        for side, marks in zip(sides, zip(*turned, strict=True), strict=True):
            side[metric] = "".join(marks)
    return Draw(cases=_cases(drawn), stable=sides[0], candidate=sides[1])


def _moved(
    random: np.random.Generator, topics: Sequence[str], marks: str, *, points: int, n: int, by_topic: bool
) -> Draw:
    """4 % of questions move either way, and so many points more in one."""
    places, drawn = _by_topic(random, topics, n)
    stable = np.array([marks[place] == "1" for place in places])
    if points > 0:  # room for the gain: the stable version fails so many more
        stable &= random.random(n) > 0.4
    candidate = stable.copy()
    move = 0.04 * n
    for value, share in ((True, move / max(1, stable.sum())), (False, move / max(1, (~stable).sum()))):
        candidate[(stable == value) & (random.random(n) < share)] = not value
    losing = points < 0
    able = (stable == losing) & (candidate == losing)
    # The share is what is true; how many it hits varies, and by topic it varies more.
    share = abs(points) / 100 * n / max(1, able.sum())
    hit = random.random(max(drawn) + 1)[drawn] < share if by_topic else random.random(n) < share
    candidate[able & hit] = not losing
    return Draw(
        cases=_cases(drawn),
        stable={"answer_right": _text(stable)},
        candidate={"answer_right": _text(candidate)},
    )


def _twice(metrics: Sequence[str]) -> Callable[[np.random.Generator], Draw]:
    """Twenty topics of five; what a model can do differs by topic, and so do its two samplings, a little."""

    def draw(random: np.random.Generator) -> Draw:
        drawn = [number // 5 for number in range(100)]
        sides: tuple[dict[str, str], dict[str, str]] = ({}, {})
        for metric in metrics:
            able = random.random(100) < np.repeat(random.beta(4, 2, size=20), 5)
            for side in sides:
                side[metric] = _text(random.random(100) < np.where(able, 0.97, 0.03))
        return Draw(cases=_cases(drawn), stable=sides[0], candidate=sides[1])

    return draw


def _crowded(*, topics: int) -> Callable[[np.random.Generator], Draw]:
    """Few topics, in which three questions at a time change together."""

    def draw(random: np.random.Generator) -> Draw:
        size = 100 // topics
        stable = random.random(100) < 0.6
        candidate = stable.copy()
        for topic in range(topics):
            if random.random() < 0.5:
                value = bool(random.random() < 0.5)
                members = topic * size + random.permutation(size)[:3]
                stable[members], candidate[members] = value, not value
        return Draw(
            cases=_cases([number // size for number in range(100)]),
            stable={"answer_right": _text(stable)},
            candidate={"answer_right": _text(candidate)},
        )

    return draw


def _text(marks: np.ndarray) -> str:
    return "".join("1" if mark else "0" for mark in marks)


def _share(k: int, n: int) -> dict[str, float]:
    rate = Rate(k=k, n=n)
    return {
        "k": k,
        "share": rate.value,
        "low": round(rate.interval.low, 4),
        "high": round(rate.interval.high, 4),
    }


def _cell(k: int, n: int) -> str:
    rate = Rate(k=k, n=n)
    return f"{rate.value:.1%} [{rate.interval.low * 100:.1f}-{rate.interval.high * 100:.1f}]"


if __name__ == "__main__":
    raise SystemExit(main())
