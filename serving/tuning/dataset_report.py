"""What is in a dataset and what is not, in numbers and in words."""

from __future__ import annotations

import statistics
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from serving.examples import Row, free_texts
from serving.tuning.cleaning import Cleaned
from serving.tuning.dataset_folder import SPLITS, Manifest, Rejected
from serving.tuning.dataset_reading import Read
from serving.tuning.likeness import Task
from serving.tuning.negatives import Made
from serving.tuning.splitting import Split, taught

_EXAMPLES = 3
_QUOTED = 100
#: A split of fewer test rows decides nothing: the smallest difference that it can show is too large.
_FEW_TEST_ROWS = 100
#: A wanted value is given away by the prompt's length when rows with it are the longer ones in more than this
#: share of pairs with rows without it, or in less than the rest.
_GIVEN_AWAY = 0.7
_FEWEST_TO_COMPARE = 20


def report_of(
    manifest: Manifest,
    read: Read,
    cleaned: Cleaned,
    split: Split,
    made: Mapping[str, Made],
    splits: Mapping[str, Sequence[Row]],
    task: Task,
) -> dict[str, Any]:
    """Everything that `report.md` says, as plain data."""
    return {
        "dataset": asdict(manifest),
        "read": {
            "rows": sum(read.sources.values()),
            "sources": dict(sorted(read.sources.items())),
            "tasks": dict(sorted(read.tasks.items())),
            "corrected": read.corrected,
        },
        "rejected": _rejected(cleaned.rejected),
        "personal_data": {
            "masked": dict(sorted(cleaned.masked.items())),
            "left_in_passages": dict(sorted(cleaned.in_passages.items())),
        },
        "label_noise": _noise(cleaned),
        "splits": {name: _split(splits[name], task) for name in SPLITS},
        "groups": {
            "number": split.groups,
            "largest": split.largest,
            "held_together_by": dict(sorted(split.ties.items())),
            "test_is_newest": split.by_time,
        },
        "made": {
            name: {
                kind: {"made": sum(row.kind == kind for row in each.rows), "wanted": wanted}
                for kind, wanted in sorted(each.wanted.items())
            }
            for name, each in made.items()
        },
        "coverage": _coverage(manifest.mends, splits, cleaned.rejected),
        "tokens": {
            "prompt": _lengths(cleaned.prompt_tokens),
            "answer": _lengths(cleaned.answer_tokens),
        },
        "warnings": _warnings(manifest, cleaned, split, made, splits, task),
    }


def _rejected(rejected: Sequence[Rejected]) -> dict[str, Any]:
    by_reason: dict[str, list[Rejected]] = {}
    for each in rejected:
        by_reason.setdefault(each.reason, []).append(each)
    return {
        reason: {
            "rows": len(group),
            "examples": [
                {"id": str(each.row.get("id")), "detail": each.detail}
                for each in sorted(group, key=lambda each: str(each.row.get("id")))[:_EXAMPLES]
            ],
        }
        for reason, group in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    }


def _noise(cleaned: Cleaned) -> dict[str, Any]:
    """Pairs that ask the same of the same passages and want different things: at least so much is wrong."""
    return {
        "pairs_compared": cleaned.compared,
        "pairs_that_disagree": cleaned.disagreed,
        "share": cleaned.disagreed / cleaned.compared if cleaned.compared else None,
    }


def _split(rows: Sequence[Row], task: Task) -> dict[str, Any]:
    return {
        "rows": len(rows),
        "kinds": _counted(row.kind or "served" for row in rows),
        "labels": _counted(row.label or "none" for row in rows),
        "taught": _counted(taught(row, task) for row in rows),
        "fields": {
            name: _counted(str(row.wanted[name]) for row in rows if name in row.wanted)
            for name in task.schema.get("properties", {})
            if any(_is_chosen(row, name, task) for row in rows[:1])
        },
    }


def _is_chosen(row: Row, name: str, task: Task) -> bool:
    return name in row.wanted and name not in free_texts(row.wanted, task.schema) and name != "citations"


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _coverage(
    mends: Sequence[str], splits: Mapping[str, Sequence[Row]], rejected: Sequence[Rejected]
) -> dict[str, Any]:
    """Of each failure: the clusters in which it was seen, with rows to train on and without."""
    covered: dict[str, Any] = {}
    for code in mends:
        rows = [row for row in splits["train"] if _is_of(row.label, code)]
        seen = {row.cluster or row.id for name in SPLITS for row in splits[name] if _is_of(row.label, code)}
        lost = {
            str(each.row.get("cluster") or each.row.get("id"))
            for each in rejected
            if _is_of(".".join(filter(None, (each.row.get("label"), each.row.get("sub")))), code)
        }
        trained = {row.cluster or row.id for row in rows}
        covered[code] = {
            "train_rows": len(rows),
            "clusters_with_rows": len(trained),
            "clusters_held_back": len(seen - trained),
            "clusters_without_rows": sorted(lost - seen),
        }
    return covered


def _is_of(label: str, code: str) -> bool:
    return label == code or label.startswith(f"{code}.")


def _lengths(tokens: Sequence[int]) -> dict[str, float] | None:
    if not tokens:
        return None
    ordered = sorted(tokens)
    return {
        "median": statistics.median(ordered),
        "p95": ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))],
        "longest": ordered[-1],
    }


def _warnings(
    manifest: Manifest,
    cleaned: Cleaned,
    split: Split,
    made: Mapping[str, Made],
    splits: Mapping[str, Sequence[Row]],
    task: Task,
) -> list[str]:
    warnings = []
    test = len(splits["test"])
    if test < _FEW_TEST_ROWS:
        warnings.append(f"{test} test rows: differences of less than about 20 points will not show on them")
    if 2 * split.largest > sum(len(split.rows[name]) for name in SPLITS):
        warnings.append(f"one group holds {split.largest} rows, more than half: the splits say little")
    warnings += _given_away(splits["train"], task)
    if not cleaned.prompt_tokens:
        warnings.append("token lengths were not checked: no tokenizer was given (--base)")
    warnings += [
        f"no training row is marked as mending {code}"
        for code in manifest.mends
        if not any(_is_of(row.label, code) for row in splits["train"])
    ]
    for kind in sorted({kind for each in made.values() for kind in each.wanted}):
        wanted = sum(each.wanted[kind] for each in made.values())
        found = sum(row.kind == kind for each in made.values() for row in each.rows)
        if found < wanted:
            warnings.append(f"{found} of {wanted} {kind} rows could be made of these rows")
    if cleaned.in_passages:
        found = sum(cleaned.in_passages.values())
        warnings.append(f"{found} places in passages look like personal data and were left (--mask-passages)")
    return warnings


def _given_away(rows: Sequence[Row], task: Task) -> list[str]:
    """Values that the length of the prompt tells. A model learns that before it reads, and what is served is
    of one length: where most long prompts were abstained from, it abstains from nearly all."""
    lengths = [sum(len(passage.text) for passage in row.passages) for row in rows]
    names = [
        name for name in task.schema.get("properties", {}) if any(_is_chosen(r, name, task) for r in rows[:1])
    ]
    found = []
    for name in names:
        values = [str(row.wanted.get(name)) for row in rows]
        for value in sorted(set(values)):
            having = [length for length, each in zip(lengths, values, strict=True) if each == value]
            others = [length for length, each in zip(lengths, values, strict=True) if each != value]
            if min(len(having), len(others)) < _FEWEST_TO_COMPARE:
                continue
            longer = _longer(having, others)
            if max(longer, 1 - longer) > _GIVEN_AWAY:
                found.append(
                    f"the length of the prompt gives {name} {value} away (its rows are the longer ones in "
                    f"{longer:.0%} of pairs): show rows with and without it at the length that is served"
                )
    return found


def _longer(some: Sequence[int], others: Sequence[int]) -> float:
    """Share of pairs in which the one of `some` is larger; equal ones count half."""
    ordered = sorted(others)
    pairs = sum(bisect_left(ordered, each) + bisect_right(ordered, each) for each in some)
    return pairs / (2 * len(some) * len(others))


# ---- as text -----------------------------------------------------------------------------------------


def report_text(report: Mapping[str, Any]) -> str:
    """`report.md`."""
    dataset = report["dataset"]
    rows = ", ".join(f"{name} {n}" for name, n in dataset["rows"].items())
    parts = [
        f"# Dataset {dataset['name']}",
        f"Task {dataset['task']}, {rows}; {dataset['rejected']} left out.",
        f"Fingerprint `{dataset['sha256']}`, seed {dataset['seed']}.",
    ]
    if report["warnings"]:
        parts.append("## Mind\n\n" + "\n".join(f"- {warning}" for warning in report["warnings"]))
    parts.append("## Read\n\n" + _table(("file", "rows"), report["read"]["sources"].items()))
    parts.append("## Left out\n\n" + (_left_out(report["rejected"]) or "Nothing."))
    parts.append("## Splits\n\n" + _splits(report["splits"]) + "\n\n" + _groups(report["groups"]))
    made = [
        (name, kind, counts["made"], counts["wanted"])
        for name, kinds in report["made"].items()
        for kind, counts in kinds.items()
    ]
    if made:
        parts.append("## Made rows\n\n" + _table(("split", "kind", "made", "wanted"), made))
    parts.append("## Balance of the training rows\n\n" + _balance(report["splits"]["train"]))
    if report["coverage"]:
        parts.append("## Failures that it is for\n\n" + _covered(report["coverage"]))
    parts.append("## Quality\n\n" + _quality(report))
    return "\n\n".join(parts) + "\n"


def _left_out(rejected: Mapping[str, Any]) -> str:
    return "\n".join(
        f"- {reason}: {group['rows']}\n"
        + "\n".join(f"  - `{each['id']}`: {_short(each['detail'])}" for each in group["examples"])
        for reason, group in rejected.items()
    )


def _splits(splits: Mapping[str, Any]) -> str:
    kinds = sorted({kind for each in splits.values() for kind in each["kinds"]})
    rows = [
        (name, each["rows"], *(each["kinds"].get(kind, 0) for kind in kinds)) for name, each in splits.items()
    ]
    return _table(("split", "rows", *kinds), rows)


def _groups(groups: Mapping[str, Any]) -> str:
    ties = ", ".join(f"{what} ({n})" for what, n in groups["held_together_by"].items()) or "nothing"
    newest = "The test rows are the newest." if groups["test_is_newest"] else "Times are not known."
    return (
        f"{groups['number']} groups have nothing in common; the largest holds {groups['largest']} rows. "
        f"Rows are held together by: {ties}. {newest}"
    )


def _balance(train: Mapping[str, Any]) -> str:
    return "\n".join(
        f"- {name}: "
        + ", ".join(f"{value} {n}" for value, n in sorted(counts.items(), key=lambda item: -item[1]))
        for name, counts in {**train["fields"], "label": train["labels"]}.items()
    )


def _covered(coverage: Mapping[str, Any]) -> str:
    rows = [
        (
            code,
            each["train_rows"],
            each["clusters_with_rows"],
            each["clusters_held_back"],
            len(each["clusters_without_rows"]),
        )
        for code, each in coverage.items()
    ]
    return _table(("failure", "training rows", "clusters", "only in valid or test", "without rows"), rows)


def _quality(report: Mapping[str, Any]) -> str:
    noise, personal = report["label_noise"], report["personal_data"]
    share = "none to compare" if noise["share"] is None else f"{noise['share']:.1%}"
    disagree = f"{noise['pairs_that_disagree']} of {noise['pairs_compared']} pairs"
    lines = [
        f"- label noise: {disagree} that ask the same want different things ({share})",
        f"- personal data masked: {_named(personal['masked'])}",
        f"- personal data left in passages: {_named(personal['left_in_passages'])}",
    ]
    for what, lengths in report["tokens"].items():
        if lengths:
            lines.append(
                f"- tokens of {what}: median {lengths['median']:g}, 95 % up to {lengths['p95']}, "
                f"longest {lengths['longest']}"
            )
    return "\n".join(lines)


def _named(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items()) or "none"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _QUOTED else flat[: _QUOTED - 3] + "..."
