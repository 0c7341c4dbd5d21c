"""The plan of a run: every row as often as the recipe says, alike lengths together."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import ExampleError
from serving.examples import Row
from serving.tuning.dataset_folder import Dataset, Manifest
from serving.tuning.plan import require_enough, steps_of
from serving.tuning.recipe import Recipe, RecipeFile, load_recipe


def recipe(tmp_path: Path, **training: Any) -> Recipe:
    path = tmp_path / "recipe.yaml"
    knobs = {"name": "t", "schema": "support_answer", "prompt": "support_short", "prompt_budget_tokens": 560}
    path.write_text(yaml.safe_dump({**knobs, "training": training}))
    return load_recipe(path)


def of(**training: Any) -> Recipe:
    file = RecipeFile.model_validate(
        {"name": "t", "schema": "s", "prompt": "p", "prompt_budget_tokens": 1, "training": training}
    )
    return Recipe(file=file, task="t", schema={}, prompt=None)  # type: ignore[arg-type]


@given(
    lengths=st.lists(st.integers(1, 900), min_size=1, max_size=60),
    passes=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_each_row_is_seen_once_in_each_pass(lengths: list[int], passes: int) -> None:
    steps = steps_of(lengths, of(epochs=float(passes), rows_per_step=8))
    seen = Counter(row for step in steps for row in step)
    assert set(seen) == set(range(len(lengths)))
    assert set(seen.values()) == {passes}
    assert all(len(step) == 8 for step in steps[:-1])


def test_part_of_a_pass_sees_part_of_the_rows() -> None:
    steps = steps_of([5] * 40, of(epochs=1.5, rows_per_step=8))
    assert sum(map(len, steps)) == 60
    assert Counter(Counter(row for step in steps for row in step).values()) == {1: 20, 2: 20}


def test_rows_of_a_micro_batch_are_alike_in_length() -> None:
    lengths = list(range(100, 164))
    steps = steps_of(lengths, of(epochs=1.0, rows_per_step=8))
    pairs = [step[n : n + 2] for step in steps for n in range(0, 8, 2)]
    assert all(abs(lengths[a] - lengths[b]) == 1 for a, b in pairs)
    assert [row for step in steps for row in step] != sorted(row for step in steps for row in step)


def test_the_seed_decides_the_order_and_a_limit_cuts_it() -> None:
    one, two = of(epochs=1.0), of(epochs=1.0)
    assert steps_of([1] * 50, one) == steps_of([1] * 50, two)
    other = one.file.model_copy(update={"seed": 1})
    assert steps_of([1] * 50, Recipe(file=other, task="", schema={}, prompt=one.prompt)) != steps_of(
        [1] * 50, one
    )
    assert len(steps_of([1] * 50, of(epochs=1.0, max_steps=3))) == 3


def row(n: int, answer: str) -> Row:
    return Row(id=f"r{n}", question="q", passages=(), wanted={"answer": answer})


def dataset(train: int, *, valid: int = 2, answers: int = 2) -> Dataset:
    rows = [row(n, f"answer {n % answers}") for n in range(train + valid)]
    manifest = Manifest(
        name="d", task="t", sha256="", schema_sha256="", rows={}, rejected=0, sources={}, seed=0, mends=(),
        settings={}, held_out={},
    )  # fmt: skip
    return Dataset(manifest=manifest, train=tuple(rows[:train]), valid=tuple(rows[train:]), test=())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (dataset(0), "holds 0 rows"),
        (dataset(1), "holds 1 rows, and one step of this recipe takes 8"),
        (dataset(7), "holds 7 rows"),
        (dataset(20, valid=0), r"valid\.jsonl holds no rows"),
        (dataset(20, answers=1), "all 20 rows of train.jsonl want the same answer"),
    ],
)
def test_what_nothing_can_be_learnt_from_is_refused(tmp_path: Path, rows: Dataset, message: str) -> None:
    with pytest.raises(ExampleError, match=message):
        require_enough(rows, tmp_path, recipe(tmp_path))


def test_enough_is_enough(tmp_path: Path) -> None:
    require_enough(dataset(8), tmp_path, recipe(tmp_path))
