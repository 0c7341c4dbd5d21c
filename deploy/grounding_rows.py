"""Make the rows that the entailment model learns from: people's labels, and right sentences made wrong.

    python -m deploy.grounding_rows --labelled ../shared/data/groundedness --demo deploy/demo --out rows.jsonl

A row is a claim, the window of the text that it is held against, and whether that window supports it; where
only a word is wrong, its place too. Labelled rows that share a context or an answer with dev.jsonl are left
out. Rows of one text are in one fold of ten. What it does not do: read the demo's dev or holdout questions,
or take HaluEval's labels (its wrong answers are whole sentences and its right ones are not, which is easily
learnt and worth nothing).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from retrieval.parsing import parse_file
from serving.entailment_rows import ANSWER, FOLDS, Row
from serving.evidence_windows import evidence_windows
from serving.grounding import check_sentence
from serving.prompting import Passage
from serving.seeded_faults import Fault, add_claim, any_small_fault, flip_negation, swap_value
from serving.sentences import sentences
from serving.wording import load_wording

#: A window of another text with more of a sentence's words than this may support it after all.
_OTHER_OVERLAP = 0.65
#: Ways to say the same, so that a copied sentence is not all that support looks like.
_REWORDED = (
    (r"\bcosts\b", "is priced at"), (r"\bchoose\b", "select"), (r"\bopen\b", "go to"),
    (r"\blasts\b", "runs for"), (r"\bup to\b", "at most"), (r"\bneeds\b", "requires"),
    (r"\bdeleted\b", "removed"), (r"\bdelete\b", "remove"), (r"\bdo not\b", "don't"),
    (r"\bdoes not\b", "doesn't"), (r"\bcannot\b", "can't"), (r"\bis not\b", "isn't"),
    (r"\b14 days\b", "two weeks"), (r"\bfor example\b", "e.g."), (r"\bstarted\b", "began"),
    (r"\bmovie\b", "film"), (r"\bfilm\b", "movie"), (r"\bapproximately\b", "about"),
    (r"\bmany\b", "lots of"), (r"\blarge\b", "big"), (r"\bbuy\b", "purchase"), (r"\bkeeps\b", "stores"),
    (r"\busers\b", "people"), (r"\ba month\b", "per month"), (r"\ba year\b", "per year"),
    (r"\bwithin\b", "in"), (r"\bat least\b", "a minimum of"), (r"\boften\b", "frequently"),
)  # fmt: skip
_OPENINGS = (
    "Yes, ", "I think ", "Well, ", "Hi, ", "In short, ", "That depends: ", "Thanks for asking. ",
    "I believe ", "As far as I know, ", "Sure: ",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """A right sentence, the passages that support it and others that do not."""

    set: str
    group: str
    text: str
    passages: tuple[Passage, ...]
    others: tuple[Passage, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the rows and print what there is of each kind."""
    parser = argparse.ArgumentParser(prog="python -m deploy.grounding_rows", description="Make the rows.")
    parser.add_argument("--labelled", type=Path, required=True, help="folder with train.jsonl and dev.jsonl")
    parser.add_argument("--demo", type=Path, required=True, help="folder with articles/ and questions/")
    parser.add_argument("--out", type=Path, required=True, help="JSONL to write")
    parser.add_argument("--passes", type=int, default=3, help="times each labelled row is taken")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    chance = random.Random(args.seed)
    rows = [
        *labelled_rows(args.labelled, chance, passes=args.passes),
        *demo_rows(args.demo, chance),
    ]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    # Sorted: the order in which texts were read is no part of what a model is made from.
    lines = sorted(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)
    args.out.write_text("".join(lines), encoding="utf-8")
    for kind, count in sorted(Counter((row.set, row.kind) for row in rows).items()):
        print(f"{count:6} {kind[0]}: {kind[1]}")
    return 0


# ---- people's labels -----------------------------------------------------------------------------


def labelled_rows(folder: Path, chance: random.Random, *, passes: int) -> Iterator[Row]:
    """Rows of train.jsonl that share nothing with dev.jsonl, and faults put into the grounded ones."""
    dev = _read_jsonl(folder / "dev.jsonl")
    seen = {_plain(text) for row in dev for text in [*row["contexts"], row["answer"]]}
    rows = [
        row
        for row in _read_jsonl(folder / "train.jsonl")
        if not any(_plain(text) in seen for text in [*row["contexts"], row["answer"]])
    ]
    for row in rows:
        source, group = row["source"], _plain(row["contexts"][0])
        passages = tuple(_passage(n, text) for n, text in enumerate(row["contexts"], 1))
        others = _others(rows, row, chance)
        if source.startswith("BEGIN") and row["label"] in {"grounded", "ungrounded"}:
            supported = row["label"] == "grounded"
            for _ in range(passes):
                yield from _held_against(source, group, "people", row["answer"], passages, supported)
            if supported:
                yield from _made(
                    _Said(set=source, group=group, text=row["answer"], passages=passages, others=others),
                    chance,
                )
        elif source == "WiCE":
            spans = [(span["start"], span["end"]) for span in row["spans"]]
            yield from _held_against(source, group, "people", row["answer"], passages, False, spans)
            for said in _copied(source, group, row["answer"], passages, others):
                yield from _made(said, chance, copy=True)
                yield from _made(said, chance, copy=True)
        elif source.startswith("HaluEval") and row["label"] == "grounded" and not is_held_out(group):
            for unit in sentences(row["contexts"][0]):
                text = row["contexts"][0][unit.start : unit.end]
                if 6 < len(text.split()) < 40:
                    yield from _made(
                        _Said(set=source, group=group, text=text, passages=passages, others=others),
                        chance,
                        copy=True,
                    )


def is_held_out(context: str) -> bool:
    """Whether a HaluEval context is kept for judging alone."""
    return _digest(_plain(context)) % 2 == 0


def _copied(
    source: str, group: str, claim: str, passages: tuple[Passage, ...], others: tuple[Passage, ...]
) -> Iterator[_Said]:
    """The sentence of the context that is nearest to the claim, as one that its context supports."""
    best = evidence_windows(claim, passages, most=1)
    for window in best:
        units = [window.text[unit.start : unit.end] for unit in sentences(window.text)]
        whole = [text for text in units if 7 < len(text.split()) < 35 and text[-1] in ".!?"]
        if whole:
            yield _Said(set=source, group=group, text=whole[0], passages=passages, others=others)


def _others(
    rows: Sequence[dict[str, Any]], row: dict[str, Any], chance: random.Random
) -> tuple[Passage, ...]:
    drawn = [chance.choice(rows) for _ in range(6)]
    return tuple(
        _passage(n, text)
        for n, text in enumerate((one["contexts"][0] for one in drawn), 1)
        if _plain(text) != _plain(row["contexts"][0])
    )


# ---- the demo ------------------------------------------------------------------------------------


def demo_rows(folder: Path, chance: random.Random) -> Iterator[Row]:
    """Rows of the training questions' answers, and of the articles' own sentences."""
    articles = {
        document.id: _passage(0, document.text, document.title)
        for path in sorted((folder / "articles").rglob("*.*"))
        for document in [parse_file(path.name, path.read_bytes()).document]
    }
    fixed = load_wording().all()
    for path in sorted((folder / "questions").glob("*.jsonl")):
        for row in _read_jsonl(path):
            if row["split"] != "train" or row["status"] == "abstained" or not row["gold"]:
                continue
            gold = tuple(articles[name] for name in row["gold"])
            others = tuple(passage for name, passage in articles.items() if name not in row["gold"])
            for unit in sentences(row["answer"]):
                text = row["answer"][unit.start : unit.end]
                if not check_sentence(text, gold, question=row["text"], fixed=fixed).is_claim:
                    continue
                said = _Said(
                    set="demo answers", group=row["gold"][0], text=text, passages=gold, others=others
                )
                whole = _row(said.set, said.group, ANSWER, text, _whole(gold), True)
                yield replace(whole, question=row["text"])
                for _ in range(2):
                    yield from _made(said, chance)
    for name, passage in articles.items():
        others = tuple(other for other_name, other in articles.items() if other_name != name)
        for unit in sentences(passage.text):
            text = passage.text[unit.start : unit.end]
            # Half of them: their own words are easier than what people make of them.
            if 5 < len(text.split()) < 40 and chance.random() < 0.5:
                said = _Said(set="demo articles", group=name, text=text, passages=(passage,), others=others)
                yield from _made(said, chance, copy=True)


# ---- one right sentence --------------------------------------------------------------------------


def _made(said: _Said, chance: random.Random, *, copy: bool = False) -> Iterator[Row]:
    """The sentence itself, reworded, and two sentences that its passages do not support."""
    text = _reworded(said.text, chance) if copy or chance.random() < 0.5 else said.text
    yield from _held_against(said.set, said.group, "right", text, said.passages, True)
    sources = [passage.text for passage in said.passages]
    elsewhere = [
        p.text[u.start : u.end]
        for p in chance.sample(said.others, min(4, len(said.others)))
        for u in sentences(p.text)
    ]
    faults: list[Fault | None] = [any_small_fault(said.text, sources, chance)]
    draw = chance.random()
    if draw < 0.3:
        faults.append(add_claim(said.text, elsewhere, chance))
    elif draw < 0.5:
        faults.append(swap_value(said.text, sources, chance))
    elif draw < 0.7:
        faults.append(flip_negation(said.text, chance))
    else:
        # The right sentence beside another text, and another text's sentence beside this one.
        near = evidence_windows(text, said.others, most=2)
        for window in near:
            if window.overlap < _OTHER_OVERLAP:
                yield _row(said.set, said.group, "other text", text, window.text, False)
                break
        foreign = [text for text in elsewhere if 5 < len(text.split()) < 35]
        if foreign:
            yield from _held_against(
                said.set, said.group, "other sentence", chance.choice(foreign), said.passages, False
            )
    for fault in faults:
        if fault is not None:
            kept = _reworded(fault.text, chance, keep=(fault.start, fault.end)) if copy else fault.text
            shift = len(kept) - len(fault.text)
            at = kept.find(fault.text[fault.start : fault.end], max(0, fault.start - 40))
            spans = [(at, at + fault.end - fault.start)] if at >= 0 and (shift or at == fault.start) else []
            yield from _held_against(said.set, said.group, fault.kind, kept, said.passages, False, spans)


def _held_against(
    source: str,
    group: str,
    kind: str,
    claim: str,
    passages: Sequence[Passage],
    supported: bool,
    spans: Sequence[tuple[int, int]] = (),
) -> Iterator[Row]:
    """The claim beside the window that a check would show first."""
    for window in evidence_windows(claim, passages, most=1):
        yield _row(source, group, kind, claim, window.text, supported, spans)


def _row(
    source: str,
    group: str,
    kind: str,
    claim: str,
    evidence: str,
    supported: bool,
    spans: Sequence[tuple[int, int]] = (),
) -> Row:
    return Row(
        set=source,
        kind=kind,
        fold=_digest(group) % FOLDS,
        claim=claim,
        evidence=evidence,
        supported=supported,
        wrong=tuple(spans),
    )


def _reworded(text: str, chance: random.Random, *, keep: tuple[int, int] | None = None) -> str:
    """The sentence in slightly other words; what stands in `keep` stays."""
    kept = text[keep[0] : keep[1]] if keep else None
    for old, new in chance.sample(_REWORDED, len(_REWORDED) // 2):
        changed = re.sub(old, new, text, count=1, flags=re.IGNORECASE)
        if kept is None or kept in changed:
            text = changed
    if chance.random() < 0.25:
        opening = chance.choice(_OPENINGS)
        text = opening + (text[0].lower() + text[1:] if text[:2].istitle() else text)
    return text


def _whole(passages: Sequence[Passage]) -> str:
    return "\n".join(f"{passage.title}\n{passage.text}" for passage in passages)


def _passage(n: int, text: str, title: str = "") -> Passage:
    return Passage(n=n, title=title, text=text, start=0, end=len(text))


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _digest(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    raise SystemExit(main())
