"""A recipe is read whole or refused with the field and the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.errors import RecipeError
from serving.tuning.recipe import Device, load_recipe

LEAST: dict[str, Any] = {
    "name": "support",
    "schema": "support_answer",
    "prompt": "support_short",
    "prompt_budget_tokens": 560,
}
ROOT = Path(__file__).resolve().parents[4]


def write(folder: Path, **more: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**LEAST, **more}), encoding="utf-8")
    return path


def test_defaults_are_filled_in_and_recorded(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, lora={"rank": 8}))
    assert recipe.task == "support_answer"
    assert recipe.prompt.name == "support_short"
    knobs = recipe.knobs()
    assert knobs["lora"] == {"rank": 8, "alpha": 32, "dropout": 0.0}
    assert knobs["schema"] == "support_answer"
    assert recipe.shape(Device.CPU).dtype == "float32"
    assert recipe.shape(Device.CUDA).dtype == "bfloat16"


def test_the_digest_is_of_the_settings_not_of_the_file(tmp_path: Path) -> None:
    one = load_recipe(write(tmp_path))
    (tmp_path / "other").mkdir()
    two = tmp_path / "other" / "same.yaml"
    two.write_text("# a comment\n" + yaml.safe_dump({**LEAST, "seed": 0}, sort_keys=False), encoding="utf-8")
    assert load_recipe(two).sha256 == one.sha256
    assert load_recipe(write(tmp_path, seed=1)).sha256 != one.sha256


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"training": {"lerning_rate": 0.1}},
            r"training\.lerning_rate: no such setting; meant learning_rate\?",
        ),
        ({"colour": "red"}, r"colour: no such setting; known: name, schema, prompt"),
        ({"training": {"epochs": "two"}}, r"training\.epochs: .*number.*not 'two'$"),
        ({"training": {"learning_rate": "1e-3"}}, r"training\.learning_rate: .*write 0\.001 without quotes"),
        ({"training": {"epochs": 0}}, r"training\.epochs: .*greater than 0"),
        ({"training": {"epochs": float("nan")}}, r"training\.epochs: .*finite"),
        ({"training": {"max_steps": True}}, r"training\.max_steps: .*integer"),
        ({"lora": {"rank": 1000}}, r"lora\.rank: .*256"),
        ({"devices": {"cpu": {"dtype": "int4", "rows_at_once": 2}}}, r"devices\.cpu\.dtype: .*float32"),
        (
            {"devices": {"cpu": {"dtype": "float32", "rows_at_once": 3}}},
            r"devices\.cpu\.rows_at_once: 3 does not divide training\.rows_per_step 8",
        ),
        ({"name": "Not a name"}, r"name: .*pattern"),
        ({"schema": "haiku"}, r"schema: no file 'haiku' beside it; .*support_answer"),
        ({"prompt": "../none.yaml"}, r"prompt: no file"),
        ({"seed": -1}, r"seed: .*greater"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(write(tmp_path, **more))


@pytest.mark.parametrize("field", sorted(LEAST))
def test_what_must_be_there_is_named_when_it_is_not(tmp_path: Path, field: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in LEAST.items() if key != field}))
    with pytest.raises(RecipeError, match=rf"{field}: is missing"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be a mapping"),
        (b"- a", "must be a mapping"),
        (b"a: [", "not YAML"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


def test_a_file_or_folder_that_is_not_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such recipe"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="is a folder"):
        load_recipe(tmp_path)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "deploy/demo/recipes").glob("*.yaml")), ids=lambda path: path.stem
)
def test_shipped_recipes_can_be_read(path: Path) -> None:
    assert load_recipe(path).name == path.stem
