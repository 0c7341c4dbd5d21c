"""What differs between two model versions: part by part, texts line by line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from serving.versions import prompt_from_json

#: Parts of a version's identity that are compared as they are.
_PLAIN = ("base_digest", "adapter_digest", "task", "prompt_budget_tokens")
#: Parts of the record, which make no other version.
_RECORD = ("rank", "alpha", "target_modules", "dataset_sha256", "seed", "parent", "trained_on", "served_as")
_OBJECTS = ("recipe", "metrics", "packages")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One part that is not the same in both."""

    part: str
    before: Any
    after: Any
    #: A unified diff, where the values are texts or longer than a line.
    lines: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"part": self.part, "before": self.before, "after": self.after, "lines": list(self.lines)}


def differences(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    *,
    manifests: tuple[Mapping[str, Any], Mapping[str, Any]],
) -> list[Difference]:
    """Of two definitions and their manifests: identity first, then the record. Empty: nothing differs."""
    one, other = manifests
    return [
        *_values(before, after, _PLAIN),
        *_texts("prompt", _prompt_text(before["prompt"]), _prompt_text(after["prompt"])),
        *_texts("schema", _pretty(before["schema"]), _pretty(after["schema"])),
        *_fields("decoding", before["decoding"], after["decoding"]),
        *_values(one, other, _RECORD),
        *(found for name in _OBJECTS for found in _fields(name, one.get(name) or {}, other.get(name) or {})),
    ]


def _values(
    before: Mapping[str, Any], after: Mapping[str, Any], names: tuple[str, ...]
) -> Iterator[Difference]:
    for name in names:
        if before.get(name) != after.get(name):
            yield Difference(part=name, before=before.get(name), after=after.get(name))


def _fields(part: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    """Of two objects, down to the values that are none."""
    for name in dict.fromkeys([*before, *after]):
        left, right = before.get(name), after.get(name)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            yield from _fields(f"{part}.{name}", left, right)
        elif left != right:
            yield Difference(part=f"{part}.{name}", before=left, after=right)


def _texts(part: str, before: str, after: str) -> Iterator[Difference]:
    if before != after:
        lines = difflib.unified_diff(
            before.splitlines(), after.splitlines(), fromfile="before", tofile="after", lineterm="", n=2
        )
        yield Difference(part=part, before=None, after=None, lines=tuple(lines))


def _prompt_text(row: Mapping[str, Any]) -> str:
    """A prompt as its file reads."""
    prompt = prompt_from_json(row)
    parts = [f"name: {prompt.name}", f"shows: {prompt.shows}", "system:", prompt.system]
    for n, shot in enumerate(prompt.shots, start=1):
        parts += [f"shot {n} context:", shot.context, f"shot {n} question:", shot.question]
        parts += [f"shot {n} answer:", shot.answer]
    return "\n".join(parts)


def _pretty(schema: Mapping[str, Any]) -> str:
    """The order of the properties is kept: it is the order in which the model writes them."""
    return json.dumps(schema, ensure_ascii=False, indent=1)
