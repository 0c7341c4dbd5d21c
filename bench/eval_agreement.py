"""How often the labeller names the cause that people named, on failures that nobody planted.

    python -m bench.eval_agreement                        # agreement on the published turns, set by set and in all
    python -m bench.eval_agreement demo                   # on one set
    python -m bench.eval_agreement demo --marks deploy/demo/questions   # with today's vital and side facts; writes no result
    python -m bench.eval_agreement --sheet RUN > sheet.md # what a reader gets: failed turns without any label

`bench/organic/<set>/` holds runs of real vLLM and what two readers wrote of their failed turns, each alone and
before the labeller had ever run on them (git has the order); a set without their files is left out. A turn is in when a scorer that knows no causes finds
something wrong with it. Beside the labeller stands a rule of thumb: "the gold article was not in the prompt: retrieval;
else the model made it up".
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from bench.machine import describe_machine
from eval.cases import load_cases
from eval.labelling.corpus import CorpusFile
from eval.labelling.counterfactuals import RerunFile, Reruns
from eval.labelling.labels import Label
from eval.labelling.records import criteria_of, label_run, turns_of
from eval.matching import shown
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
    "answer_vital": 0.0,
    "format_valid": 0.0,
    "hallucination_draft": 1.0,
    "tone": 0.0,
    "citations": 0.0,
}
Key = tuple[str, str]


#: What each judge says of each turn: the readers, the labeller and the rule of thumb.
Judges = Mapping[str, Mapping[Key, str]]
LABELLER, THUMB, IN_ALL = "labeller", "rule of thumb", "in all"


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often one judge says what another says."""

    who: str
    #: None where no turn was judged by both.
    rate: Rate | None
    #: Beyond what their frequencies give by chance.
    kappa: float | None

    @classmethod
    def of(cls, who: str, pairs: Sequence[tuple[str, str]]) -> Self:
        """From what the two say of each turn."""
        if not pairs:
            return cls(who=who, rate=None, kappa=None)
        same = sum(one == other for one, other in pairs)
        return cls(who=who, rate=Rate(k=same, n=len(pairs)), kappa=kappa(pairs))

    def as_json(self) -> dict[str, object]:
        """For the result file."""
        if self.rate is None or self.kappa is None:
            return {"who": self.who, "k": 0, "n": 0}
        interval = [round(self.rate.interval.low, 3), round(self.rate.interval.high, 3)]
        return {
            "who": self.who,
            "k": self.rate.k,
            "n": self.rate.n,
            "interval": interval,
            "kappa": round(self.kappa, 3),
        }

    def __str__(self) -> str:
        if self.rate is None or self.kappa is None:
            return f"{self.who:42} no turn"
        low, high = self.rate.interval.low, self.rate.interval.high
        share = f"{self.rate.k:4} of {self.rate.n:4}  {self.rate.value:.3f} [{low:.3f}, {high:.3f}]"
        return f"{self.who:42} {share}  kappa {self.kappa:.2f}"


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
            f"{_spelled(case.vital_facts)}; not asked for, a gain if told {_spelled(case.side_facts)}; "
            f"superseded {', '.join(map(shown, case.stale_values)) or 'none'}\n"
            f"found (first ten documents of the search): {hits}\nretrieved for the turn: {', '.join(seen.retrieved)}\n"
            f"passages in the prompt:\n{packed or '  none'}\n"
            f"first draft{f' ({seen.draft.failure})' if seen.draft and seen.draft.failure else ''}: "
            f"{seen.draft.text if seen.draft else 'nothing was generated'}\n"
            f"repaired: {seen.repaired}; served as {seen.status}: {seen.answer}\n"
            f"what scorers object to: {'; '.join(wrong)}\n"
        )
    return "\n".join(parts)


def _spelled(facts: Sequence[Sequence[str]]) -> str:
    """Accepted spellings of each fact, without the marks that are for the machine."""
    return json.dumps([[shown(spelling) for spelling in fact] for fact in facts], ensure_ascii=False)


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


def marked(data: RunData, marks: Path | None) -> RunData:
    """The run with the side facts that its questions have by now: it may be older than the marks."""
    if marks is None:
        return data
    side = {case.id: case.side_facts for case in load_cases(marks)}
    return replace(data, cases=tuple(replace(case, side_facts=side.get(case.id, ())) for case in data.cases))


def measure(folder: RunFolder, scoring: Scoring, marks: Path | None = None) -> dict[str, dict[Key, str]]:
    """Every judge's label of every turn that both readers have read."""
    data = marked(folder.read(), marks)
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
    judges[LABELLER] = {key: ours[key] for key in sorted(keys)}
    judges[THUMB] = {key: rule_of_thumb(data, key) for key in sorted(keys)}
    return judges


def agreed(judges: Judges) -> dict[Key, str]:
    """What the readers say where they say the same."""
    one, other = (judges[name] for name in sorted(judges) if name.startswith("reader"))
    return {key: label for key, label in one.items() if other[key] == label}


def compared(judges: Judges) -> list[Agreement]:
    """Agreement of each judge with each reader, and with both where they agree."""
    one, other = (name for name in sorted(judges) if name.startswith("reader"))
    references = [(f", {reader}", judges[reader]) for reader in (one, other)]
    references.append((", where the readers agree", agreed(judges)))
    rows = [(f"{one} and {other}, each other", judges[one], judges[other])]
    rows += [
        (name + against, judges[name], reference)
        for name in (LABELLER, THUMB)
        for against, reference in references
    ]
    return [
        Agreement.of(who, [(judge[key], label) for key, label in reference.items()])
        for who, judge, reference in rows
    ]


def confusion(judges: Judges) -> list[tuple[str, str, int]]:
    """Where the readers agree: their label, the labeller's, and how often; the commonest first."""
    pairs = Counter((label, judges[LABELLER][key]) for key, label in agreed(judges).items())
    return [(*pair, count) for pair, count in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))]


def pooled(sets: Mapping[str, Judges]) -> dict[str, dict[Key, str]]:
    """All sets as one: a turn keeps its set in its key, because sets number their questions alike."""
    judges: dict[str, dict[Key, str]] = {}
    for name, of_set in sets.items():
        for judge, labels in of_set.items():
            judges.setdefault(judge, {}).update(
                {(f"{name}/{case}", arm): label for (case, arm), label in labels.items()}
            )
    return judges


def read_sets(root: Path, names: Sequence[str]) -> tuple[list[RunFolder], list[str]]:
    """The folders to judge, and the names of those that nobody has read yet."""
    unknown = [name for name in names if not RunFolder(root / name).exists]
    if unknown:
        raise SystemExit(f"{root / unknown[0]}: no run there; sets are folders with run.json")
    wanted = [root / name for name in names] or sorted(root.iterdir())
    folders = [folder for folder in map(RunFolder, wanted) if folder.exists]
    unread = [folder.path.name for folder in folders if not any(folder.path.glob("reader-*.jsonl"))]
    return [folder for folder in folders if folder.path.name not in unread], unread


def main(argv: Sequence[str] | None = None) -> int:
    """Print agreement and write bench/results/eval_agreement.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="*", metavar="SET", help="folders of bench/organic (all)")
    parser.add_argument("--sheet", type=Path, metavar="RUN", help="print the failed turns of a run")
    parser.add_argument(
        "--marks", type=Path, metavar="QUESTIONS", help="take side facts from these questions"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "results/eval_agreement.json")
    args = parser.parse_args(argv)
    scoring = build_scoring(schema=EvalSettings().task_schema)
    if args.sheet:
        print(sheet(RunFolder(args.sheet), scoring))
        return 0
    machine = describe_machine()
    folders, unread = read_sets(ORGANIC, args.sets)
    if unread:
        print(f"left out, as nobody has read them: {', '.join(unread)}\n", file=sys.stderr)
    if not folders:
        raise SystemExit(f"{ORGANIC}: no run there that was read")
    sets: dict[str, Judges] = {folder.path.name: measure(folder, scoring, args.marks) for folder in folders}
    report = {name: _shown(name, judges) for name, judges in {**sets, IN_ALL: pooled(sets)}.items()}
    print(f"aim: the labeller agrees with people on {AIM:.0%} of at least 100")
    result = {"machine": machine, "criteria": criteria_of(scoring), **report.pop(IN_ALL), "sets": report}
    if args.marks is None:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def _shown(name: str, judges: Judges) -> dict[str, object]:
    """Print one set's agreement and give it as JSON."""
    rows, labels = compared(judges), confusion(judges)
    print(f"{name}\n" + "\n".join(f"  {row}" for row in rows))
    print("  where the readers agree: theirs -> the labeller's")
    print("\n".join(f"    {count:4}  {theirs:18} -> {ours}" for theirs, ours, count in labels) + "\n")
    return {"agreement": [row.as_json() for row in rows], "confusion": labels}


if __name__ == "__main__":
    sys.exit(main())
