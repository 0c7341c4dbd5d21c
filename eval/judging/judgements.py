"""What a judge was asked and what it said, a line each; what was said once is not asked again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import orjson

from eval.errors import RunError, StorageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One answer to be judged, with all that the judge is shown."""

    id: str
    evidence: Mapping[str, Any]

    @property
    def shown(self) -> str:
        """The evidence as the judge gets it. As JSON, so that no answer can look like a passage."""
        return orjson.dumps(self.evidence, option=orjson.OPT_INDENT_2).decode()

    @property
    def digest(self) -> str:
        """Names the evidence: another answer to the same question is judged again."""
        return hashlib.sha256(self.shown.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one judge said of one answer."""

    id: str
    digest: str
    version: str
    #: True for yes, False for no, None where nothing can be used: that is neither.
    verdict: bool | None
    #: The judge's own words.
    reason: str = ""
    #: Why there is no verdict.
    missing: str = ""
    #: Whether it is worth asking again: the endpoint was at fault, not what it wrote.
    again: bool = False
    #: The model as the endpoint names it: a hosted name may come to mean another model.
    served: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain data for one line."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """The judgement that `as_json` wrote."""
        return cls(**row)


class JudgementFile:
    """Judgements of any judge, in the order in which they came. Of the same one again the last counts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, version: str) -> dict[tuple[str, str], Judgement]:
        """What this version said, by id and evidence."""
        if not self.path.is_file():
            return {}
        found = {}
        for number, line in enumerate(self.path.read_bytes().splitlines(), start=1):
            try:
                said = Judgement.from_json(orjson.loads(line))
            except orjson.JSONDecodeError:
                # Cut off by a crash: it is asked again.
                continue
            except TypeError as exc:
                raise RunError(
                    f"{self.path}:{number}: no judgement of this version ({exc}); delete it, judge again"
                ) from exc
            if said.version == version:
                found[said.id, said.digest] = said
        return found

    def add(self, said: Judgement) -> None:
        """Keep it at once: asking costs money."""
        try:
            with self.path.open("ab") as file:
                file.write(orjson.dumps(said.as_json()) + b"\n")
        except OSError as exc:
            raise StorageError(f"{self.path}: {exc.strerror}; free space, then judge again") from exc


def waiting(items: Iterable[Item], known: Mapping[tuple[str, str], Judgement]) -> list[Item]:
    """Those without a judgement, and those whose endpoint failed."""
    return [
        item
        for item in items
        if (said := known.get((item.id, item.digest))) is None or (said.verdict is None and said.again)
    ]
