"""Which folders an engine loads for a version."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.models import LocalModels, ModelFolders
from deploy.placement import EngineWeights
from serving.settings import Form
from serving.versions import ModelVersion


def prepared(root: Path, form: Form) -> tuple[LocalModels, ModelVersion]:
    """The models, and the tuned version whose files were made in that form."""
    models = LocalModels(
        folders=ModelFolders(root),
        base_digest="b" * 64,
        adapter_digest="a" * 64,
        manifest={"prompt": "support_short", "prompt_budget_tokens": 430},
        form=form,
    )
    models.folders.base.mkdir()
    (models.folders.base / "config.json").write_text("{}", encoding="utf-8")
    tuned = models.tuned_version()
    assert tuned is not None
    return models, tuned


def test_merged_a_tuned_version_has_weights_of_its_own(tmp_path: Path) -> None:
    models, tuned = prepared(tmp_path, Form.MERGED)
    assert models.weights_of(models.base_version()) == EngineWeights(models.folders.base)
    assert models.weights_of(tuned) is None
    merged = models.folders.merged("b" * 64, "a" * 64)
    merged.mkdir()
    (merged / "config.json").write_text("{}", encoding="utf-8")
    assert models.weights_of(tuned) == EngineWeights(merged)


def test_as_an_adapter_it_stands_on_the_base(tmp_path: Path) -> None:
    models, tuned = prepared(tmp_path, Form.ADAPTER)
    assert models.weights_of(tuned) is None
    adapter = models.folders.adapter("a" * 64)
    adapter.mkdir()
    assert models.weights_of(tuned) == EngineWeights(models.folders.base, adapter)


@pytest.mark.parametrize(("form", "other"), [(Form.MERGED, Form.ADAPTER), (Form.ADAPTER, Form.MERGED)])
def test_what_was_prepared_in_the_other_form_only_is_served_in_that_one(
    tmp_path: Path, form: Form, other: Form
) -> None:
    models, tuned = prepared(tmp_path, form)
    merged = EngineWeights(models.folders.merged("b" * 64, "a" * 64))
    adapter = models.folders.adapter("a" * 64)
    adapted = EngineWeights(models.folders.base, adapter)
    made = {Form.MERGED: merged, Form.ADAPTER: adapted}
    for each in (other, form):
        folder = adapter if each is Form.ADAPTER else merged.model
        folder.mkdir()
        (folder / "config.json").write_text("{}", encoding="utf-8")
        assert models.weights_of(tuned) == made[each]


def test_a_version_on_another_base_is_not_here(tmp_path: Path) -> None:
    models, tuned = prepared(tmp_path, Form.ADAPTER)
    models.folders.adapter("a" * 64).mkdir()
    assert models.weights_of(replace(tuned, base_digest="c" * 64)) is None
