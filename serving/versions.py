"""Model versions: what one is made of, and how its id follows from that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import jsonschema

from serving.errors import TaskSchemaError
from serving.prompting import PromptTemplate, Shot

SCHEMAS = Path(__file__).parent / "schemas"

#: Keywords that the grammar compiler cannot hold the model to, or only slowly.
UNSUPPORTED_KEYWORDS = frozenset(
    {"uniqueItems", "contains", "multipleOf", "propertyNames", "patternProperties"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How tokens are chosen; part of a version's identity."""

    max_tokens: int = 160
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    #: Whether vLLM's structured output holds the model to the schema.
    constrained: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """An immutable release of the model rail: base + adapter + prompt + schema + decoding.

    The id `m-<name>-<sha8>` is a digest of exactly these fields, and it is the name under which vLLM serves
    it.
    """

    name: str
    base_digest: str
    adapter_digest: str | None
    prompt: PromptTemplate
    task: str
    schema: Mapping[str, Any]
    decoding: Decoding = field(default_factory=Decoding)
    #: Tokens the rendered prompt may take.
    prompt_budget_tokens: int = 700
    #: The id, once it was asked for: each turn names it several times.
    _id: str = field(default="", init=False, repr=False, compare=False)

    @property
    def id(self) -> str:
        """`m-<name>-<sha8>`."""
        if not self._id:
            object.__setattr__(self, "_id", f"m-{self.name}-{sha256_of(self.definition())[:8]}")
        return self._id

    def definition(self) -> dict[str, Any]:
        """The fields as plain JSON values, in a fixed order.

        The order of a schema's properties is kept: the engine writes them in that order, so it is behaviour.
        """
        return {
            "name": self.name,
            "base_digest": self.base_digest,
            "adapter_digest": self.adapter_digest,
            "prompt": prompt_definition(self.prompt),
            "task": self.task,
            "schema": dict(self.schema),
            "decoding": {
                "max_tokens": int(self.decoding.max_tokens),
                "temperature": float(self.decoding.temperature),
                "top_p": float(self.decoding.top_p),
                "seed": int(self.decoding.seed),
                "constrained": bool(self.decoding.constrained),
            },
            "prompt_budget_tokens": int(self.prompt_budget_tokens),
        }

    @classmethod
    def from_definition(cls, definition: Mapping[str, Any]) -> Self:
        """The inverse of `definition`."""
        return cls(
            name=definition["name"],
            base_digest=definition["base_digest"],
            adapter_digest=definition["adapter_digest"],
            prompt=prompt_from_json(definition["prompt"]),
            task=definition["task"],
            schema=definition["schema"],
            decoding=Decoding(**definition["decoding"]),
            prompt_budget_tokens=definition["prompt_budget_tokens"],
        )


class VersionState(StrEnum):
    """What may be done with a registered version."""

    #: May take traffic.
    RELEASABLE = "releasable"
    #: May take traffic, because a person insisted.
    FORCED = "forced"
    #: Answers pinned questions of evaluation, and nothing else.
    CANDIDATE = "candidate"
    #: Takes no part any more.
    RETIRED = "retired"
    #: Its row in the registry was damaged: never wanted, never routable.
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredVersion:
    """A version as the registry keeps it: its identity, how it is served, and where it came from."""

    version: ModelVersion
    #: Name in the engines' model lists; the version's id unless it is somebody else's endpoint.
    served_name: str
    manifest: Mapping[str, Any]
    #: Whether it may take traffic.
    releasable: bool
    author: str
    created_at: datetime
    #: Releasable because a person insisted, not because a gate passed it.
    forced: bool = False
    #: Since when it takes no part any more; turns still name it.
    retired_at: datetime | None = None

    @property
    def id(self) -> str:
        """The version's id."""
        return self.version.id

    @property
    def state(self) -> VersionState:
        """What may be done with it."""
        if self.retired_at is not None:
            return VersionState.RETIRED
        if not self.releasable:
            return VersionState.CANDIDATE
        return VersionState.FORCED if self.forced else VersionState.RELEASABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableVersion:
    """A row of the registry that is no version any more: listed with the reason, good for nothing else."""

    id: str
    reason: str
    author: str
    created_at: datetime
    retired_at: datetime | None = None

    @property
    def state(self) -> VersionState:
        """Damaged, or given up since."""
        return VersionState.UNREADABLE if self.retired_at is None else VersionState.RETIRED


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """Which version is which arm. One row; every promote, undo and rollout moves it."""

    stable: str
    canary: str | None = None
    canary_weight_bp: int = 0
    previous: str | None = None
    #: Whether an undo left the previous version: then it stands in for nobody.
    taken_back: bool = False
    shadow: str | None = None
    fallback: str | None = None
    salt: str = ""
    revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoGoal:
    """What takes traffic after an undo."""

    stable: str
    canary: str | None
    canary_weight_bp: int


def canonical_json(value: Any) -> str:
    """Compact JSON in the order given; equal values written in equal order give equal bytes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def sha256_of(value: Any) -> str:
    """Hex digest of a JSON value's canonical form."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def prompt_definition(prompt: PromptTemplate) -> dict[str, Any]:
    """A prompt's wording as plain JSON values."""
    definition = {
        "name": prompt.name,
        "system": prompt.system,
        "shots": [
            {"context": shot.context, "question": shot.question, "answer": shot.answer}
            for shot in prompt.shots
        ],
    }
    # What every prompt does by itself stays out, so that digests and ids are those of before.
    return definition if prompt.shows == "passages" else {**definition, "shows": prompt.shows}


def prompt_from_json(row: Mapping[str, Any]) -> PromptTemplate:
    """The inverse of `prompt_definition`."""
    return PromptTemplate(
        name=row["name"],
        system=row["system"],
        shots=tuple(Shot(**shot) for shot in row["shots"]),
        shows=row.get("shows", "passages"),
    )


def load_task_schema(path: Path) -> dict[str, Any]:
    """Read a task schema: the JSON Schema of what the model writes.

    The property `answer`, where there is one, is the text that is streamed to the caller and must be a
    string; without it the whole JSON is the answer.
    """
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise TaskSchemaError(f"{path}: no such task schema file") from exc
    except UnicodeDecodeError as exc:
        raise TaskSchemaError(f"{path}: not UTF-8 text; a task schema is a JSON file") from exc
    except json.JSONDecodeError as exc:
        raise TaskSchemaError(f"{path}: line {exc.lineno}, column {exc.colno}: not JSON ({exc.msg})") from exc
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise TaskSchemaError(f'{path}: a task schema must say "type": "object" at its top')
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as exc:
        raise TaskSchemaError(f"{path}: {exc.json_path}: {exc.message}") from exc
    properties = schema.get("properties")
    if not properties:
        raise TaskSchemaError(f"{path}: properties: name at least one field")
    answer = properties.get("answer")
    if answer is not None and (not isinstance(answer, dict) or answer.get("type") != "string"):
        raise TaskSchemaError(
            f'{path}: properties.answer: must be {{"type": "string"}}, it is streamed as text'
        )
    _refuse_unsupported(schema, "$", path)
    return schema


def _refuse_unsupported(node: Any, where: str, path: Path) -> None:
    if isinstance(node, list):
        for n, item in enumerate(node):
            _refuse_unsupported(item, f"{where}[{n}]", path)
    if not isinstance(node, dict):
        return
    is_schema = isinstance(node.get("type"), (str, list))
    for key, value in node.items():
        if is_schema and key in UNSUPPORTED_KEYWORDS:
            raise TaskSchemaError(
                f"{path}: {where}.{key}: the engine cannot hold a model to this keyword; remove it"
            )
        _refuse_unsupported(value, f"{where}.{key}", path)
