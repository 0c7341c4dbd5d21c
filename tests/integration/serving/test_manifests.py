"""A version's manifest: what follows from the version, what is record, and copies that say something else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from psycopg_pool import AsyncConnectionPool

from serving.errors import ManifestError
from serving.manifests import (
    IDENTITY,
    Manifest,
    check_manifest_file,
    manifest_file,
    read_run_record,
    write_manifest,
)
from serving.prompting import PromptTemplate
from serving.registry import ModelRegistry
from serving.versions import Decoding, ModelVersion, sha256_of

VERSION = ModelVersion(
    name="support",
    base_digest="b" * 64,
    adapter_digest="a" * 64,
    prompt=PromptTemplate(name="short", system="Answer as JSON."),
    task="support_answer",
    schema={"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "string"}}},
)
RECIPE = {"seed": 7, "lora": {"rank": 16}}
#: As a training run writes it.
RUN = {
    "base_digest": "b" * 64,
    "adapter_digest": "a" * 64,
    "prompt": "other",
    "prompt_sha256": "c" * 64,
    "schema_sha256": "d" * 64,
    "rank": 16,
    "alpha": 32,
    "target_modules": ["q_proj", "v_proj"],
    "dataset_sha256": "e" * 64,
    "recipe": RECIPE,
    "recipe_sha256": sha256_of(RECIPE),
    "seed": 7,
    "packages": {"torch": "2.13.0"},
    "parent": "m-support-00000001",
    "author": "somebody at the trainer",
    "losses": [2.0, 1.0],
    "steps": 2,
}


def made(**facts: Any) -> Manifest:
    return Manifest.of(VERSION, {**RUN, **facts}, author="tester")


def test_a_run_record_becomes_a_manifest() -> None:
    manifest = made()
    assert (manifest.version, manifest.task) == (VERSION.id, "support_answer")
    assert (manifest.rank, manifest.alpha, manifest.seed) == (16, 32, 7)
    assert manifest.target_modules == ("q_proj", "v_proj")
    assert manifest.trained_on == {"prompt": "other", "prompt_sha256": "c" * 64, "schema_sha256": "d" * 64}
    assert manifest.prompt == "short"
    assert manifest.run == {"losses": [2.0, 1.0], "steps": 2}
    assert (manifest.author, manifest.forced) == ("tester", False)
    assert Manifest.from_json(json.loads(json.dumps(manifest.as_json()))) == manifest


def test_what_is_identity_decides_the_version_and_what_is_record_does_not() -> None:
    other = made(dataset_sha256="f" * 64, parent=None, losses=[])
    mine, its = made().as_json(), other.as_json()
    assert [mine[name] for name in IDENTITY] == [its[name] for name in IDENTITY]
    for changed in (
        replace(VERSION, base_digest="0" * 64),
        replace(VERSION, prompt=replace(VERSION.prompt, system="Answer.")),
        replace(VERSION, schema=dict(reversed(VERSION.schema.items()))),
        replace(VERSION, decoding=Decoding(max_tokens=99)),
        replace(VERSION, prompt_budget_tokens=99),
        replace(VERSION, task="routing"),
    ):
        identity = Manifest.of(changed, {}, author="").as_json()
        assert changed.id != VERSION.id
        assert next(name for name in IDENTITY if identity[name] != mine[name]) == "version"
        assert sum(identity[name] != mine[name] for name in IDENTITY) >= 2


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"base_digest": "0" * 64}, "base_digest: the record says 00000000 and the weights are bbbbbbbb"),
        ({"adapter_digest": None}, "adapter_digest: the record says none and the weights are aaaaaaaa"),
        ({"recipe": {"seed": 8}}, "recipe: hashes to "),
        ({"rank": "16"}, "rank: '16' is not a whole number"),
        ({"seed": True}, "seed: True is not a whole number"),
        ({"metrics": [1]}, r"metrics: \[1\] is not an object"),
        ({"target_modules": "q_proj"}, "target_modules: 'q_proj' is not a list of names"),
    ],
)
def test_a_record_that_cannot_be_true_is_refused_by_field(facts: dict[str, Any], says: str) -> None:
    with pytest.raises(ManifestError, match=f"^{says}"):
        made(**facts)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"vesion": 1}, "vesion: no field of a manifest; remove it"),
        ({"version": None}, "version: None is not text"),
        ({"forced": 1}, "forced: 1 is not true or false"),
        ({"alpha": "big"}, "alpha: 'big' is not a number"),
        ({"decoding": []}, r"decoding: \[\] is not an object"),
    ],
)
def test_what_is_no_manifest_is_refused_by_field(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ManifestError, match=f"^{says}"):
        Manifest.from_json({**made().as_json(), **change})


def test_a_field_of_the_identity_that_is_missing_is_named() -> None:
    for name in IDENTITY:
        row = made().as_json()
        del row[name]
        with pytest.raises(ManifestError, match=f"^{name}: missing"):
            Manifest.from_json(row)


def test_the_file_is_written_once_and_an_edited_one_is_refused_by_field(tmp_path: Path) -> None:
    manifest = made()
    assert not check_manifest_file(tmp_path, manifest)
    path = write_manifest(tmp_path, manifest)
    assert path == manifest_file(tmp_path, VERSION.id)
    before = path.stat()
    assert write_manifest(tmp_path, manifest) == path
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert check_manifest_file(tmp_path, manifest)
    for name, value in {"dataset_sha256": "0" * 64, "metrics": {"tone": 1.0}, "author": "nobody"}.items():
        path.write_text(json.dumps({**manifest.as_json(), name: value}), encoding="utf-8")
        for use in (check_manifest_file, write_manifest):
            with pytest.raises(ManifestError, match=rf"{VERSION.id}\.json: {name}: is .*remove it"):
                use(tmp_path, manifest)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ManifestError, match="cannot be read as JSON"):
        write_manifest(tmp_path, manifest)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_manifest_that_gained_facts_replaces_the_one_that_it_was(tmp_path: Path) -> None:
    before = made()
    write_manifest(tmp_path, before)
    after = replace(before, metrics={"tone": 0.97}, forced=True)
    with pytest.raises(ManifestError, match="metrics"):
        write_manifest(tmp_path, after)
    write_manifest(tmp_path, after, replaces=before)
    assert check_manifest_file(tmp_path, after)


def test_a_folder_without_a_run_record_says_nothing(tmp_path: Path) -> None:
    assert read_run_record(tmp_path) == {}
    (tmp_path / "manifest.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ManifestError, match="holds no JSON object"):
        read_run_record(tmp_path)


@pytest.fixture
async def registry(database_url: str) -> AsyncIterator[ModelRegistry]:
    async with AsyncConnectionPool(database_url, min_size=1, max_size=2, open=False) as pool:
        yield ModelRegistry(pool)


async def test_the_same_inputs_give_one_version_whose_copies_agree(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    first = await registry.register(VERSION, manifest=RUN, author="tester")
    again = await registry.register(replace(VERSION), manifest={**RUN, "steps": 3}, author="another")
    assert first == again
    assert [each.id for each in await registry.versions()] == [VERSION.id]
    stored = Manifest.from_json((await registry.version(VERSION.id)).manifest)
    assert stored.created_at == first.created_at.isoformat(timespec="microseconds")
    write_manifest(tmp_path, stored)
    read = json.loads(manifest_file(tmp_path, VERSION.id).read_text(encoding="utf-8"))
    assert read == dict(again.manifest)
    assert check_manifest_file(tmp_path, Manifest.from_json(again.manifest))


async def test_what_cannot_be_true_is_not_registered(registry: ModelRegistry) -> None:
    with pytest.raises(ManifestError):
        await registry.register(VERSION, manifest={**RUN, "adapter_digest": "0" * 64})
    assert await registry.versions() == []
