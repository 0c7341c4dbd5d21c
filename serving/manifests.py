"""What a version's manifest holds: what it is made of, and what is known of how it came to be.

The first part repeats the version's identity in words that a person compares; it follows from the version and
is checked against it. The second is the record: another author, date or metric makes no other version. The
manifest is stored with the version, and as `manifests/<version>.json` beside the weights of the machine that
registered it; both say the same, and a file that was edited is refused with the field named.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from serving.errors import ManifestError
from serving.versions import ModelVersion, prompt_definition, sha256_of

#: The run record that training writes beside an adapter.
RUN_RECORD = "manifest.json"
#: Fields that follow from the version: the same in every manifest of it.
IDENTITY = (
    "version",
    "base_digest",
    "adapter_digest",
    "task",
    "prompt",
    "prompt_sha256",
    "schema_sha256",
    "decoding",
    "prompt_budget_tokens",
)
#: What a run record says of the prompt and schema that it trained with, which may not be those of serving.
_TRAINED_ON = ("prompt", "prompt_sha256", "prompt_budget_tokens", "schema", "schema_sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A version in full: identity first, then the record."""

    version: str
    base_digest: str
    adapter_digest: str | None
    task: str
    prompt: str
    prompt_sha256: str
    schema_sha256: str
    decoding: Mapping[str, Any]
    prompt_budget_tokens: int
    #: Of the adapter; None without one, or where nobody said.
    rank: int | None = None
    alpha: float | None = None
    target_modules: tuple[str, ...] = ()
    #: Fingerprint of the rows that it was trained on.
    dataset_sha256: str | None = None
    recipe: Mapping[str, Any] | None = None
    recipe_sha256: str | None = None
    seed: int | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    #: The version that training started from.
    parent: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    #: Prompt and schema of the training rows.
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    #: How it is served where it was registered: `base`, `merged`, `adapter` or `outside`.
    served_as: str = ""
    #: What made the weights: a wheel, a training run, somebody else's endpoint.
    source: str = ""
    author: str = ""
    created_at: str = ""
    #: Whether it is releasable without a gate that passed it.
    forced: bool = False
    #: Everything else that the run record holds: losses, steps, threads, revision of the code.
    run: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, version: ModelVersion, facts: Mapping[str, Any], *, author: str, forced: bool = False
    ) -> Self:
        """The manifest of a version, from what the caller knows of it: a run record, an adapter's facts.

        What the facts say of the version's own digests must be true; what they do not name stays empty.
        """
        for name in ("base_digest", "adapter_digest"):
            if name in facts and facts[name] != getattr(version, name):
                raise ManifestError(
                    f"{name}: the record says {_short(facts[name])} and the weights are "
                    f"{_short(getattr(version, name))}; restore the record, or register the weights it is of"
                )
        given = dict(facts)
        recipe = given.get("recipe")
        if isinstance(recipe, Mapping):
            given.setdefault("recipe_sha256", sha256_of(recipe))
            if given["recipe_sha256"] != sha256_of(recipe):
                raise ManifestError(
                    f"recipe: hashes to {_short(sha256_of(recipe))}, and recipe_sha256 is "
                    f"{_short(given['recipe_sha256'])}; restore the record of the training run"
                )
            for name in ("rank", "alpha", "seed"):
                given.setdefault(name, recipe.get(name))
        trained_on = {name: given.pop(name) for name in _TRAINED_ON if name in given}
        own = {each.name for each in fields(cls)} - set(IDENTITY)
        rest = {name: given.pop(name) for name in [*given] if name not in own and name not in IDENTITY}
        for name in ("author", "created_at", "forced", *IDENTITY):
            given.pop(name, None)
        row = {
            "trained_on": trained_on,
            "run": rest,
            **{name: value for name, value in given.items() if value is not None},
            **identity_of(version),
            "author": author,
            "created_at": datetime.now(UTC).isoformat(timespec="microseconds"),
            "forced": forced,
        }
        return cls.from_json(row)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """The inverse of `as_json`; says which field is missing, unknown or of another type."""
        known = {each.name for each in fields(cls)}
        if unknown := sorted(set(row) - known):
            raise ManifestError(f"{unknown[0]}: no field of a manifest; remove it")
        if missing := [name for name in IDENTITY if name not in row]:
            raise ManifestError(f"{missing[0]}: missing; restore the manifest")
        _require_kinds(row)
        values = dict(row)
        values["target_modules"] = tuple(values.get("target_modules", ()))
        return cls(**values)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "target_modules": list(self.target_modules)}

    def require_same(self, other: Manifest, *, where: Path | str) -> None:
        """Refuse a copy of this manifest that says something else, with the first field that does."""
        mine, its = self.as_json(), other.as_json()
        for name, value in mine.items():
            if its[name] != value:
                raise ManifestError(
                    f"{where}: {name}: is {_shown(its[name])}, and the registry has {_shown(value)}: the "
                    "file was edited; remove it, and register the version again to have it written"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherUse:
    """Where a configuration makes something else of an adapter's weights than a manifest recorded."""

    #: As `adapter_config.json` calls it.
    field: str
    given: str
    recorded: str


#: What decides what an adapter's weights do: the name in a manifest, and in `adapter_config.json`.
_USES = {"rank": "r", "alpha": "lora_alpha", "target_modules": "target_modules"}


def other_use(given: Mapping[str, Any], recorded: Mapping[str, Any]) -> OtherUse | None:
    """The first of rank, alpha and layers in which two records of the same weights differ.

    What one of them does not name says nothing.
    """
    for name, field_ in _USES.items():
        mine, its = (_use(each.get(name)) for each in (given, recorded))
        if mine and its and mine != its:
            return OtherUse(field=field_, given=_shown(mine), recorded=_shown(its))
    return None


def _use(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, list | tuple) else value


def identity_of(version: ModelVersion) -> dict[str, Any]:
    """The fields of a manifest that follow from the version."""
    definition = version.definition()
    return {
        "version": version.id,
        "base_digest": version.base_digest,
        "adapter_digest": version.adapter_digest,
        "task": version.task,
        "prompt": version.prompt.name,
        "prompt_sha256": sha256_of(prompt_definition(version.prompt)),
        "schema_sha256": sha256_of(version.schema),
        "decoding": definition["decoding"],
        "prompt_budget_tokens": definition["prompt_budget_tokens"],
    }


def read_run_record(folder: Path) -> dict[str, Any]:
    """The record of the run that made an adapter; empty where the folder holds none."""
    return _read(folder / RUN_RECORD) if (folder / RUN_RECORD).exists() else {}


def manifest_file(models: Path, version_id: str) -> Path:
    """Where a version's manifest lies beside the weights."""
    return models / "manifests" / f"{version_id}.json"


def write_manifest(models: Path, manifest: Manifest, *, replaces: Manifest | None = None) -> Path:
    """Write the manifest beside the weights; again changes nothing.

    A file that says something else is refused, unless it says what this manifest `replaces`.
    """
    path = manifest_file(models, manifest.version)
    if path.exists():
        there = Manifest.from_json(_read(path))
        if there == manifest:
            return path
        if there != replaces:
            manifest.require_same(there, where=path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(manifest.as_json(), file, ensure_ascii=False, indent=1)
            file.write("\n")
        Path(partial).replace(path)
    except OSError as exc:
        raise ManifestError(f"{path}: cannot be written: {exc}") from exc
    return path


def check_manifest_file(models: Path, manifest: Manifest) -> bool:
    """Whether this machine has the manifest's file; refused if it says something else than `manifest`."""
    path = manifest_file(models, manifest.version)
    if not path.exists():
        return False
    manifest.require_same(Manifest.from_json(_read(path)), where=path)
    return True


def require_readable(row: Any, version: ModelVersion) -> None:
    """Refuse a stored manifest that is none of the version's, with the field.

    One that a later release wrote may hold fields that are not known here: they decide nothing here.
    """
    if not isinstance(row, Mapping):
        raise ManifestError(f"manifest: is {_shown(row)}, not an object")
    for name, value in identity_of(version).items():
        if name not in row:
            raise ManifestError(f"manifest.{name}: missing")
        if row[name] != value:
            raise ManifestError(
                f"manifest.{name}: is {_shown(row[name])}, and the version has {_shown(value)}"
            )
    known = {each.name for each in fields(Manifest)}
    _require_kinds({name: value for name, value in row.items() if name in known})


def _require_kinds(row: Mapping[str, Any]) -> None:
    for name, value in row.items():
        kind, words = _kind_of(name)
        if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kind):
            raise ManifestError(f"{name}: {value!r} is not {words}; restore the manifest")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ManifestError(f"{path}: cannot be read as JSON ({exc}); restore it or remove it") from exc
    if not isinstance(found, dict):
        raise ManifestError(f"{path}: holds no JSON object; restore it or remove it")
    return found


_TEXTS = frozenset(
    {"version", "base_digest", "task", "prompt", "prompt_sha256", "schema_sha256"}
    | {"served_as", "source", "author", "created_at"}
)
_OBJECTS = frozenset({"decoding", "packages", "metrics", "trained_on", "run"})


def _kind_of(name: str) -> tuple[tuple[type, ...], str]:
    """The types that a field's JSON value may have, and how to call them."""
    if name in _TEXTS:
        return (str,), "text"
    if name in _OBJECTS:
        return (Mapping,), "an object"
    if name == "recipe":
        return (Mapping, type(None)), "an object"
    if name == "target_modules":
        return (list, tuple), "a list of names"
    if name == "prompt_budget_tokens":
        return (int,), "a whole number"
    if name in ("rank", "seed"):
        return (int, type(None)), "a whole number"
    if name == "alpha":
        return (int, float, type(None)), "a number"
    if name == "forced":
        return (bool,), "true or false"
    return (str, type(None)), "text"


def _short(digest: object) -> str:
    return digest[:8] if isinstance(digest, str) else "none"


def _shown(value: Any) -> str:
    """Long values are told apart by where they stand, not read."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
