"""`twinrail tune dataset`: rows in, a dataset folder out. One linear program; every step says what it did.

    read -> schema, grounding, lengths -> duplicates -> held-out questions -> split -> negatives -> leak test
    -> report -> write

The same rows give the same bytes, in whatever files and order they come. Nothing is written before everything
is decided.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from serving.checker import GroundingChecker
from serving.errors import DatasetLeakError, DatasetTooSmallError, ExampleError, NotTrainableError
from serving.examples import Row, check_fields, free_texts, parse_history, read_objects
from serving.redaction import Redactor
from serving.tuning import cleaning
from serving.tuning.cleaning import Cleaned, Encoding, Rules
from serving.tuning.dataset_folder import (
    SPLITS,
    Manifest,
    Rejected,
    fingerprint,
    require_replaceable,
    write_dataset,
)
from serving.tuning.dataset_reading import Read, read_inputs
from serving.tuning.dataset_report import report_of, report_text
from serving.tuning.failures import instead_of_tuning, is_behaviour, is_known, trainable
from serving.tuning.leaks import find_leaks, find_repeats
from serving.tuning.likeness import Task, told
from serving.tuning.negatives import Made, NegativeMaker, Shares
from serving.tuning.splitting import Split, split_rows
from serving.versions import canonical_json, sha256_of
from serving.wording import Wording

#: Steps, as progress names them.
STEPS = ("read", "check", "duplicates", "held out", "split", "negatives", "leak test", "write")
HELD_OUT = "asks a held-out question"
#: Splits of a question set on which nothing is decided.
_TRAINING_SPLITS = ("train",)
_SHOWN_LEAKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the rows of a dataset depend on besides its inputs."""

    seed: int = 0
    #: Shares of the rows that judge; the rest is trained on.
    valid: float = 0.1
    test: float = 0.1
    negatives: Shares = field(default_factory=Shares)
    #: Fewest rows after cleaning, and fewest groups that have nothing in common.
    least_rows: int = 100
    least_groups: int = 10
    max_tokens: int = 1024
    #: Leave rows out that ask a held-out question, instead of refusing the dataset.
    drop_held_out: bool = False

    @property
    def shares(self) -> dict[str, float]:
        """Share of each split."""
        return {"train": 1 - self.valid - self.test, "valid": self.valid, "test": self.test}


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The files."""

    files: tuple[Path, ...]
    corrections: tuple[Path, ...] = ()
    #: Question sets that no row may repeat: folders with `questions.jsonl`, or files.
    against: tuple[Path, ...] = ()
    #: Failures that the dataset is meant to mend.
    mends: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A dataset before it is written."""

    manifest: Manifest
    splits: Mapping[str, Sequence[Row]]
    rejected: Sequence[Rejected]
    report: Mapping[str, Any]


#: Says that a step begins; gives back what takes a word on what came of it.
Say = Callable[[str, str], None]


def build(
    folder: Path,
    inputs: Inputs,
    *,
    schema: Mapping[str, Any],
    wording: Wording,
    settings: Settings,
    redactor: Redactor | None,
    checker: GroundingChecker | None = None,
    encoding: Encoding | None = None,
    mask_passages: bool = False,
    say: Say = lambda step, text: None,
) -> Built:
    """Everything but the writing, top to bottom; refuses what would make a bad dataset."""
    # ---- 1. what it is for -----------------------------------------------------------------------
    require_replaceable(folder)
    require_trainable(inputs.mends)
    task = Task(schema=schema, wordings=wording.all())
    rules = Rules(
        task=task, redactor=redactor, mask_passages=mask_passages, checker=checker, encoding=encoding
    )

    # ---- 2. read ---------------------------------------------------------------------------------
    read = read_inputs(inputs.files, schema, corrections=inputs.corrections)
    questions = held_out_questions(inputs.against)
    say("read", f"{len(read.rows)} rows, {len(read.rejected)} without an answer or of another task")
    _require_rows(read)

    # ---- 3. clean --------------------------------------------------------------------------------
    cleaned = Cleaned(rows=read.rows, rejected=read.rejected)
    cleaning.mask(cleaned, rules)
    before = len(cleaned.rows)
    cleaning.check(cleaned, rules, _every(1000, before, lambda text: say("check", text)))
    say("check", f"{len(cleaned.rows)} of {before} rows stay; {sum(cleaned.masked.values())} places masked")
    before = len(cleaned.rows)
    cleaning.drop_duplicates(cleaned, rules)
    say("duplicates", f"{before - len(cleaned.rows)} rows repeat or contradict others")

    # ---- 4. questions that judge -----------------------------------------------------------------
    repeats = find_repeats(cleaned.rows, questions)
    _leave_out(cleaned, repeats, settings)
    say("held out", f"{len(questions)} questions, {len(repeats)} rows ask one of them")
    _require_enough(cleaned, task, settings)

    # ---- 5. split --------------------------------------------------------------------------------
    split = split_rows(cleaned.rows, settings.shares, task=task, seed=settings.seed)
    say(
        "split",
        ", ".join(f"{name} {len(split.rows[name])}" for name in SPLITS) + f" in {split.groups} groups",
    )
    _require_filled(split, settings)

    # ---- 6. negatives ----------------------------------------------------------------------------
    maker = NegativeMaker(
        task=task,
        wording=wording,
        shares=settings.negatives,
        seed=settings.seed,
        accepts=lambda row: accepts(row, rules),
    )
    made = {name: maker.make(name, split.rows[name]) for name in SPLITS}
    for each in made.values():
        each.rows = _unasked(each.rows, questions)
    _drop_leaking(made, split, task)
    splits = {name: (*split.rows[name], *made[name].rows) for name in SPLITS}
    say("negatives", f"{sum(len(each.rows) for each in made.values())} rows made")

    # ---- 7. leak test ----------------------------------------------------------------------------
    require_no_leak(splits, task)
    say("leak test", "nothing is shared between the splits")

    # ---- 8. report -------------------------------------------------------------------------------
    manifest = Manifest(
        name=folder.resolve().name,
        task=str(schema.get("title") or ""),
        sha256=fingerprint(splits),
        schema_sha256=sha256_of(schema),
        rows={name: len(splits[name]) for name in SPLITS},
        rejected=len(cleaned.rejected),
        sources=dict(sorted(read.sources.items())),
        seed=settings.seed,
        mends=inputs.mends,
        settings={**asdict(settings), "grounding": checker.version if checker else "facts"},
        held_out={name: _digest(path) for name, path in _named(inputs.against).items()},
    )
    report = report_of(manifest, read, cleaned, split, made, splits, task)
    return Built(manifest=manifest, splits=splits, rejected=_sorted(cleaned.rejected), report=report)


def write(folder: Path, built: Built) -> None:
    """Write it whole or not at all."""
    write_dataset(
        folder, built.splits, built.rejected, built.manifest, built.report, report_text(built.report)
    )


def accepts(row: Row, rules: Rules) -> bool:
    """Whether a made row passes what every other row has passed."""
    if check_fields(row, rules.task.schema) or cleaning.ungrounded(row, rules):
        return False
    return rules.encoding is None or cleaning.fits(row, rules.encoding)


def require_trainable(mends: Sequence[str]) -> None:
    """Refuse a dataset for a failure that training does not mend."""
    for code in mends:
        if not is_known(code):
            raise ExampleError(f"--for: {code!r} is no failure; training mends {', '.join(trainable())}")
        if not is_behaviour(code):
            instead = instead_of_tuning(code)
            raise NotTrainableError(f"--for: training does not mend {code}; instead, {instead}")


def require_no_leak(splits: Mapping[str, Sequence[Row]], task: Task) -> None:
    """Refuse splits that share something."""
    leaks = find_leaks(splits, task=task)
    if leaks:
        told = "; ".join(leak.sentence() for leak in leaks[:_SHOWN_LEAKS])
        raise DatasetLeakError(f"{len(leaks)} pairs of rows leak between splits: {told}")


def held_out_questions(paths: Sequence[Path]) -> dict[str, str]:
    """The questions of sets that judge, by set and id, as rows have theirs: with what was said before. Those
    for training are left out."""
    questions: dict[str, str] = {}
    for set_name, path in _named(paths).items():
        file = path / "questions.jsonl" if path.is_dir() else path
        for where, raw in read_objects(file):
            text = raw.get("text") or raw.get("question") if isinstance(raw, dict) else None
            if not isinstance(text, str) or not text.strip():
                raise ExampleError(f"{where}: must hold a question as `text` or `question`")
            if raw.get("split") in _TRAINING_SPLITS:
                continue
            line = where.rpartition(":")[2]
            name = f"{set_name}/{raw.get('id') or line}"
            # No question may take the place of another one: what is not looked for is not found.
            questions[f"{name} (line {line})" if name in questions else name] = told(
                text, parse_history(raw.get("history") or [], where)
            )
    return questions


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Sets by their names; those that share one by where they are."""
    names = Counter(path.name for path in paths)
    return {path.name if names[path.name] == 1 else str(path): path for path in paths}


def _leave_out(cleaned: Cleaned, repeats: Sequence[tuple[Row, str, float]], settings: Settings) -> None:
    """Rows that ask a held-out question: an error, or left out where that was asked for."""
    if not repeats:
        return
    if not settings.drop_held_out:
        told = "; ".join(
            f"{row.id!r} asks what {name!r} asks ({score:.2f}): {row.question[:80]!r}"
            for row, name, score in repeats[:_SHOWN_LEAKS]
        )
        rows = len({row.id for row, _, _ in repeats})
        raise DatasetLeakError(
            f"{rows} rows ask a held-out question: {told}; take them out, or give --drop-held-out"
        )
    names = {row.id: name for row, name, _ in reversed(repeats)}
    for row in cleaned.rows:
        if row.id in names:
            cleaned.reject(row, HELD_OUT, f"asks what {names[row.id]!r} asks")
    cleaned.rows = [row for row in cleaned.rows if row.id not in names]


def _unasked(rows: Sequence[Row], questions: Mapping[str, str]) -> list[Row]:
    """Made rows without those that ask a held-out question by chance."""
    asked = {row.id for row, _, _ in find_repeats(rows, questions)}
    return [row for row in rows if row.id not in asked]


def _drop_leaking(made: Mapping[str, Made], split: Split, task: Task) -> None:
    """Made rows out that share something with another split: somebody asked by chance what they ask."""
    ids = {row.id for each in made.values() for row in each.rows}
    while ids:
        rows = {name: (*split.rows[name], *made[name].rows) for name in SPLITS}
        sharing = {row.id for leak in find_leaks(rows, task=task) for row in (leak.first, leak.second)} & ids
        if not sharing:
            return
        for each in made.values():
            each.rows = [row for row in each.rows if row.id not in sharing]
        ids -= sharing


def _require_rows(read: Read) -> None:
    if not read.sources:
        raise ExampleError("no file holds a row; give files of rows, or folders of `twinrail eval export`")


def _require_enough(cleaned: Cleaned, task: Task, settings: Settings) -> None:
    rows = cleaned.rows
    least = max(settings.least_rows, 2)
    if len(rows) < least:
        reasons = Counter(each.reason for each in cleaned.rejected).most_common(3)
        why = "; left out: " + ", ".join(f"{reason} ({n})" for reason, n in reasons) if reasons else ""
        raise DatasetTooSmallError(
            f"{len(rows)} rows are left, and {least} are needed: review {least - len(rows)} more answers{why}"
        )
    if len({_label(row, task) for row in rows}) == 1:
        raise DatasetTooSmallError(
            "every row wants the same answer: there is nothing to tell apart; add others"
        )


def _label(row: Row, task: Task) -> str:
    """What is wanted of a row; where no text is written for a customer, what is chosen."""
    texts = () if "answer" in row.wanted else free_texts(row.wanted, task.schema)
    return canonical_json({name: value for name, value in row.wanted.items() if name not in texts})


def _require_filled(split: Split, settings: Settings) -> None:
    if split.groups < settings.least_groups:
        ties = ", ".join(f"{what} ({n})" for what, n in sorted(split.ties.items(), key=lambda item: -item[1]))
        raise DatasetTooSmallError(
            f"the rows are {split.groups} groups that have nothing in common, and {settings.least_groups} "
            f"are needed; what holds rows together: {ties}; add rows on other topics"
        )
    if empty := [name for name in SPLITS if not split.rows[name]]:
        raise DatasetTooSmallError(
            f"nothing is left for {', '.join(empty)}: the largest group holds {split.largest} rows that "
            "share a conversation, customer, cluster or question; add rows on other topics"
        )


def _every(step: int, total: int, say: Callable[[str], None]) -> Callable[[int], None]:
    def tick(done: int) -> None:
        if done % step == 0:
            say(f"{done} of {total}")

    return tick


def _digest(path: Path) -> str:
    file = path / "questions.jsonl" if path.is_dir() else path
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _sorted(rejected: Sequence[Rejected]) -> list[Rejected]:
    """In an order that does not hang on the files'."""
    return sorted(
        rejected, key=lambda each: (each.reason, str(each.row.get("id")), canonical_json(dict(each.row)))
    )
