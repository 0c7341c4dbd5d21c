"""How often the labeller names the cause that people named, on failures that nobody planted.

    python -m bench.eval_agreement                        # agreement on the published turns
    python -m bench.eval_agreement --sheet RUN > sheet.md # what a reader gets: failed turns without any label

`bench/organic/<set>/` holds runs of real vLLM and what two readers wrote of their failed turns, each alone and
before the labeller had ever run on them (git has the order). A turn is in when a scorer that knows no causes finds
something wrong with it. Beside the labeller stands a rule of thumb: "the gold article was not in the prompt: retrieval;
else the model made it up".
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.machine import describe_machine
from eval.labelling.corpus import CorpusFile
from eval.labelling.counterfactuals import RerunFile, Reruns
from eval.labelling.labels import Label
from eval.labelling.records import criteria_of, label_run, turns_of
from eval.metrics import METRICS
from eval.record import RunData, RunFolder
from eval.scorers import Score, Scoring, Subject
from eval.scoring import build_scoring
from eval.settings import EvalSettings
from eval.stats import Rate

ROOT = Path(__file__).resolve().parent
ORGANIC = ROOT / "organic"
AIM = 0.80
#: Metrics of which any may put a turn in: what it must reach to be right.
WRONG_WHEN: Mapping[str, float] = {
    "answer_right": 0.0,
    "format_valid": 0.0,
    "hallucination_draft": 1.0,
    "tone": 0.0,
    "citations": 0.0,
}
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one reader says of one turn; `passed` where there is no fault."""

    label: str
    #: Other labels that would be as right: causes beside the first one.
    others: tuple[str, ...] = ()


def failed_turns(data: RunData, scoring: Scoring) -> dict[Key, list[str]]:
    """The turns with something wrong, and what: no cause."""
    found: dict[Key, list[str]] = {}
    for turn in turns_of(data, scoring, CorpusFile(ROOT).read()):
        wrong = list(_wrong(turn.subject, scoring))
        if wrong and not turn.subject.seen.failed:
            found[turn.subject.case.id, turn.arm.name] = wrong
    return found


def _wrong(subject: Subject, scoring: Scoring) -> Iterable[str]:
    for metric in METRICS:
        if metric.name in WRONG_WHEN:
            score = metric.scorer(subject, scoring)
            if isinstance(score, Score) and score.value == WRONG_WHEN[metric.name]:
                yield f"{metric.title}: {score.detail or score.value}"


def sheet(folder: RunFolder, scoring: Scoring) -> str:
    """The failed turns as a reader sees them."""
    data = folder.read()
    cases = {case.id: case for case in data.cases}
    parts = []
    for (case_id, arm), wrong in sorted(failed_turns(data, scoring).items()):
        case, seen = cases[case_id], data.observations[case_id, arm]
        ranking = data.rankings.get((case_id, next(iter(data.record.knowledge))))
        packed = "\n".join(
            f"  [{item.passage.n}] {item.document_id} ({item.passage.title}): {item.passage.text}"
            for item in seen.packed
        )
        hits = ", ".join(ranking.documents[:10]) if ranking else "not searched"
        parts.append(
            f"## {case_id} / {arm}\nasked by {case.asker}: {case.text}\n"
            f"wanted: status {case.status}; gold {', '.join(case.gold) or 'none'}; facts "
            f"{json.dumps(case.facts)}; superseded {', '.join(case.stale_values) or 'none'}\n"
            f"found (first ten documents of the search): {hits}\nretrieved for the turn: {', '.join(seen.retrieved)}\n"
            f"passages in the prompt:\n{packed or '  none'}\n"
            f"first draft{f' ({seen.draft.failure})' if seen.draft and seen.draft.failure else ''}: "
            f"{seen.draft.text if seen.draft else 'nothing was generated'}\n"
            f"repaired: {seen.repaired}; served as {seen.status}: {seen.answer}\n"
            f"what scorers object to: {'; '.join(wrong)}\n"
        )
    return "\n".join(parts)


def readings(file: Path) -> dict[Key, Reading]:
    """A reader's file: a JSON object a line with case_id, arm, label and others."""
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        labels = (row["label"], *row.get("others", ()))
        unknown = [label for label in labels if label not in {*Label, "passed"}]
        if unknown:
            raise SystemExit(f"{file}: {row['case_id']}: {unknown[0]!r} is no label")
        found[row["case_id"], row["arm"]] = Reading(row["label"], tuple(row.get("others", ())))
    return found


def rule_of_thumb(data: RunData, key: Key) -> str:
    """What most teams would say."""
    case = next(case for case in data.cases if case.id == key[0])
    seen = data.observations[key]
    if case.gold and not {item.document_id for item in seen.packed} & set(case.gold):
        return Label.WRONG_RETRIEVAL
    return Label.HALLUCINATION


def kappa(pairs: Sequence[tuple[str, str]]) -> float:
    """Cohen's: agreement beyond what their frequencies give by chance."""
    agreed = sum(one == other for one, other in pairs) / len(pairs)
    ones, others = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    chance = sum(ones[label] * others[label] for label in ones) / len(pairs) ** 2
    return (agreed - chance) / (1 - chance) if chance < 1 else 1.0


def measure(folder: RunFolder, scoring: Scoring) -> dict[str, dict[Key, str]]:
    """Every judge's label of every turn that both readers have read."""
    data = folder.read()
    readers = {file.stem: readings(file) for file in sorted(folder.path.glob("reader-*.jsonl"))}
    keys = set.intersection(*(set(rows) for rows in readers.values())) if len(readers) > 1 else set()
    if not keys:
        raise SystemExit(f"{folder.path}: wants two files reader-*.jsonl that share turns")
    records = label_run(
        data,
        scoring,
        CorpusFile(folder.path).read(),
        Reruns.of(data, RerunFile(folder.path).read()),
        at="",
    )
    ours = {
        (record.case_id, record.arm): str(record.primary.label) if record.primary else "passed"
        for record in records
    }
    judges = {name: {key: rows[key].label for key in sorted(keys)} for name, rows in readers.items()}
    judges["labeller"] = {key: ours[key] for key in sorted(keys)}
    judges["rule of thumb"] = {key: rule_of_thumb(data, key) for key in sorted(keys)}
    return judges


def compared(judges: Mapping[str, Mapping[Key, str]]) -> list[dict[str, object]]:
    """Agreement of each judge with each reader, and with both where they agree."""
    one, other = (name for name in judges if name.startswith("reader"))
    agreed = {key: label for key, label in judges[one].items() if judges[other][key] == label}
    rows = []
    for name, reference in (
        (f"{one} and {other}, each other", judges[other]),
        *((f"labeller, {reader}", judges[reader]) for reader in (one, other)),
        ("labeller, where the readers agree", agreed),
        *((f"rule of thumb, {reader}", judges[reader]) for reader in (one, other)),
        ("rule of thumb, where the readers agree", agreed),
    ):
        judge = judges[name.split(",")[0] if not name.startswith(one) else one]
        pairs = [(judge[key], label) for key, label in reference.items()]
        same = Rate(k=sum(a == b for a, b in pairs), n=len(pairs))
        interval = [round(same.interval.low, 3), round(same.interval.high, 3)]
        rows.append(
            {"who": name, "k": same.k, "n": same.n, "interval": interval, "kappa": round(kappa(pairs), 3)}
        )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Print agreement and write bench/results/eval_agreement.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sheet", type=Path, metavar="RUN", help="print the failed turns of a run")
    parser.add_argument("--out", type=Path, default=ROOT / "results/eval_agreement.json")
    args = parser.parse_args(argv)
    scoring = build_scoring(schema=EvalSettings().task_schema)
    if args.sheet:
        print(sheet(RunFolder(args.sheet), scoring))
        return 0
    machine = describe_machine()
    folders = [RunFolder(path) for path in sorted(ORGANIC.iterdir()) if RunFolder(path).exists]
    if not folders:
        raise SystemExit(f"{ORGANIC}: no run there")
    judges: dict[str, dict[Key, str]] = {}
    for folder in folders:
        for name, labels in measure(folder, scoring).items():
            judges.setdefault(name, {}).update(
                {(f"{folder.path.name}/{case}", arm): label for (case, arm), label in labels.items()}
            )
    rows = compared(judges)
    confusion = Counter(
        (judges["reader-a"][key], label)
        for key, label in judges["labeller"].items()
        if judges["reader-a"][key] == judges["reader-b"][key]
    )
    for row in rows:
        low, high = row["interval"]  # type: ignore[misc]
        share = row["k"] / row["n"] if row["n"] else 0.0  # type: ignore[operator]
        print(
            f"{row['who']:42} {row['k']:4} of {row['n']:4}  {share:.3f} [{low:.3f}, {high:.3f}]  kappa {row['kappa']:.2f}"
        )
    print(
        f"\naim: the labeller agrees with people on {AIM:.0%} of at least 100\n\nwhere the readers agree: theirs -> the labeller's"
    )
    for (theirs, ours), count in confusion.most_common():
        print(f"  {count:4}  {theirs:18} -> {ours}")
    args.out.write_text(
        json.dumps(
            {
                "machine": machine,
                "criteria": criteria_of(scoring),
                "agreement": rows,
                "confusion": [[*pair, count] for pair, count in confusion.most_common()],
            },
            indent=1,
        )
        + "\n",
        encoding="utf-8",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
