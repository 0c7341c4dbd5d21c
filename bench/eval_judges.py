"""How often the share that a judge gives holds the true one: uncorrected, corrected, and prediction-powered.

    python -m bench.eval_judges [--draws 2000]

No model takes part: a judge here is two error rates. Answers are drawn good or bad, people's labels are drawn
either from the same answers or from others with another share of good ones, and each method gives an interval:

- uncorrected: Wilson's interval of what the judge says;
- corrected: `eval.judging` (Rogan and Gladen's estimate, Lang and Reiczigel's interval), and where it gives none;
- prediction-powered (PPI): what the judge says, less its mean error on the labelled answers, normal interval.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np

from bench.machine import describe_machine
from eval.judging.correction import Corrected, Skill, correct
from eval.stats import Interval, Rate, wilson

RESULT = Path(__file__).parent / "results" / "eval_judges.json"
SEED = 20260301
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Answers to judge, people's labels and a judge."""

    name: str
    sensitivity: float
    specificity: float
    #: Share of good answers among those that are judged, and among those that people labelled.
    share: float
    labelled_share: float
    answers: int = 200
    labels: int = 200


SCENARIOS = (
    Scenario(
        name="good judge, labels of the same answers",
        sensitivity=0.95, specificity=0.85, share=0.8, labelled_share=0.8,
    ),
    Scenario(
        name="good judge, labels half and half",
        sensitivity=0.95, specificity=0.85, share=0.8, labelled_share=0.5,
    ),
    Scenario(
        name="lenient judge, labels of the same answers",
        sensitivity=0.97, specificity=0.6, share=0.6, labelled_share=0.6,
    ),
    Scenario(
        name="lenient judge, labels of what looked bad",
        sensitivity=0.97, specificity=0.6, share=0.8, labelled_share=0.3,
    ),
    Scenario(
        name="weak judge, labels half and half",
        sensitivity=0.75, specificity=0.7, share=0.7, labelled_share=0.5,
    ),
    Scenario(
        name="coin, labels half and half",
        sensitivity=0.6, specificity=0.4, share=0.7, labelled_share=0.5,
    ),
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Tally:
    """One method in one scenario."""

    shown: int = 0
    covered: int = 0
    width: float = 0.0

    def add(self, interval: Interval | None, share: float) -> None:
        """Count an interval; None where the method gives none."""
        if interval is None:
            return
        self.shown += 1
        self.covered += interval.low <= share <= interval.high
        self.width += interval.high - interval.low

    def row(self, draws: int) -> dict[str, float | int | None]:
        """Plain data."""
        return {
            "shown": self.shown,
            "of": draws,
            "covered": self.covered / self.shown if self.shown else None,
            "width": self.width / self.shown if self.shown else None,
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and write bench/results/eval_judges.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args(argv)
    found = {each.name: measure(each, draws=args.draws) for each in SCENARIOS}
    rows = {
        name: {method: tally.row(args.draws) for method, tally in methods.items()}
        for name, methods in found.items()
    }
    for line in table(rows):
        print(line)
    result = {"machine": describe_machine(), "draws": args.draws, "scenarios": rows}
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def measure(scenario: Scenario, *, draws: int) -> dict[str, Tally]:
    """Each method on the same draws."""
    random = np.random.default_rng(SEED)
    tallies = {method: Tally() for method in ("uncorrected", "corrected", "PPI")}
    for _ in range(draws):
        yes = _says(random, scenario, random.random(scenario.answers) < scenario.share)
        good = random.random(scenario.labels) < scenario.labelled_share
        said = _says(random, scenario, good)
        k, n = int(yes.sum()), scenario.answers
        tallies["uncorrected"].add(wilson(k, n), scenario.share)
        tallies["corrected"].add(_corrected(k, n, good, said), scenario.share)
        tallies["PPI"].add(_ppi(yes, good, said), scenario.share)
    return tallies


def _says(random: np.random.Generator, scenario: Scenario, good: np.ndarray) -> np.ndarray:
    """What the judge says of answers that are good or not."""
    chance = np.where(good, scenario.sensitivity, 1 - scenario.specificity)
    return np.asarray(random.random(len(good)) < chance)


def _corrected(yes: int, n: int, good: np.ndarray, said: np.ndarray) -> Interval | None:
    bad = ~good
    if not good.any() or not bad.any():
        return None
    found = correct(
        yes,
        n,
        Skill(
            sensitivity=Rate(k=int((said & good).sum()), n=int(good.sum())),
            specificity=Rate(k=int((~said & bad).sum()), n=int(bad.sum())),
        ),
    )
    return found.interval if isinstance(found, Corrected) else None


def _ppi(yes: np.ndarray, good: np.ndarray, said: np.ndarray) -> Interval:
    """Angelopoulos and others (2023), for a mean."""
    error = good.astype(float) - said
    middle = float(yes.mean() + error.mean())
    half = _Z95 * sqrt(float(yes.var()) / len(yes) + float(error.var()) / len(error))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def table(rows: dict[str, dict[str, dict[str, float | int | None]]]) -> list[str]:
    """Coverage and width of each method, as the terminal shows them."""
    methods = list(next(iter(rows.values())))
    lines = [f"{'holds the true share (mean width)':<44}" + "".join(f"{name:>27}" for name in methods)]
    for name, found in rows.items():
        lines.append(f"{name:<44}" + "".join(f"{_cell(found[method]):>27}" for method in methods))
    return lines


def _cell(row: dict[str, float | int | None]) -> str:
    if row["covered"] is None or row["width"] is None:
        return "no share is shown"
    kept = "" if row["shown"] == row["of"] else f", {row['shown']} shown"
    return f"{row['covered']:.1%} ({row['width']:.2f}{kept})"


if __name__ == "__main__":
    raise SystemExit(main())
