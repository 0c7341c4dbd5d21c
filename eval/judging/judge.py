"""A judge: a model behind an OpenAI-compatible endpoint, and everything that decides what it says."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from eval.errors import JudgeFileError

#: Prompts that come with Twinrail, by name.
PROMPTS = Path(__file__).parent / "prompts"
YES, NO = "yes", "no"
#: What a judge must write. The reason comes first: a verdict after it is better than one before it.
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "reason": {"type": "string"},
        "verdict": {"type": "string", "enum": [YES, NO]},
    },
    "required": ["reason", "verdict"],
    "additionalProperties": False,
}


class Part(StrEnum):
    """What a judge is shown."""

    QUESTION = "question"
    HISTORY = "history"
    PASSAGES = "passages"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """One yes-or-no question, asked of one model. "yes" is the good end."""

    name: str
    #: Base address, such as `http://127.0.0.1:8000/v1`. Not part of the version: the same model elsewhere.
    url: str
    model: str
    prompt: str
    needs: tuple[Part, ...]
    max_tokens: int
    #: Words of people that mean yes and no, when the judge is measured against them.
    means_yes: frozenset[str]
    means_no: frozenset[str]
    file: Path

    @property
    def version(self) -> str:
        """The name of everything that decides what it says: model, prompt, evidence, schema and decoding."""
        decides = [self.model, self.prompt, list(self.needs), SCHEMA, self.decoding]
        plain = orjson.dumps(decides, option=orjson.OPT_SORT_KEYS)
        return f"j-{self.name}-{hashlib.sha256(plain).hexdigest()[:8]}"

    @property
    def decoding(self) -> dict[str, Any]:
        """Greedy and seeded: the same answer should get the same verdict."""
        return {"temperature": 0, "seed": 0, "max_tokens": self.max_tokens}

    @property
    def calibration_file(self) -> Path:
        """Where its measured error is kept: beside its own file."""
        return self.file.with_suffix(".calibration.json")

    @property
    def judgements_file(self) -> Path:
        """What it said of the answers that people judged."""
        return self.file.with_suffix(".calibration.jsonl")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Labels(_Strict):
    yes: frozenset[str] = frozenset({"grounded", "passed", YES})
    no: frozenset[str] = frozenset({"ungrounded", "partial", "hallucination", NO})


class _JudgeFile(_Strict):
    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    model: str = ""
    url: str = ""
    prompt: str = Field(min_length=1)
    needs: tuple[Part, ...] = (Part.QUESTION, Part.PASSAGES, Part.ANSWER)
    max_tokens: int = Field(400, ge=16, le=8192)
    labels: _Labels = _Labels()

    @field_validator("needs")
    @classmethod
    def _shows_the_answer(cls, needs: tuple[Part, ...]) -> tuple[Part, ...]:
        if Part.ANSWER not in needs:
            raise ValueError('must hold "answer": without it there is nothing to judge')
        return tuple(part for part in Part if part in needs)

    @field_validator("labels")
    @classmethod
    def _differ(cls, labels: _Labels) -> _Labels:
        if both := labels.yes & labels.no:
            raise ValueError(f"{', '.join(sorted(both))} cannot mean yes and no")
        if not labels.yes or not labels.no:
            raise ValueError("name at least one word for yes and one for no")
        return labels


def load_judge(file: Path, *, url: str | None = None, model: str | None = None) -> Judge:
    """Read a judge file (TOML); `url` and `model` hold where it names none."""
    try:
        row = _JudgeFile.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as exc:
        raise JudgeFileError(file=file, field="", what=exc.strerror or "cannot be read") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise JudgeFileError(file=file, field="", what=f"is not TOML: {exc}") from exc
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        raise JudgeFileError(file=file, field=field, what=what) from exc
    return Judge(
        name=row.name,
        url=_address(file, row.url or url or ""),
        model=_given(file, "model", row.model or model or ""),
        prompt=_prompt(file, row.prompt),
        needs=row.needs,
        max_tokens=row.max_tokens,
        means_yes=row.labels.yes,
        means_no=row.labels.no,
        file=file,
    )


def _given(file: Path, field: str, value: str) -> str:
    if not value:
        raise JudgeFileError(
            file=file, field=field, what=f"is missing; write it or set EVAL_JUDGE_{field.upper()}"
        )
    return value


def _address(file: Path, url: str) -> str:
    parts = urlsplit(_given(file, "url", url))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise JudgeFileError(file=file, field="url", what=f"{url!r} is no address; write http://HOST:PORT/v1")
    return url.rstrip("/")


def _prompt(file: Path, name: str) -> str:
    """The prompt's text: a packaged one by its name, else a file beside the judge's."""
    packaged = {path.stem: path for path in PROMPTS.glob("*.md")}
    path = packaged.get(name) or file.parent / name
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        names = ", ".join(sorted(packaged))
        raise JudgeFileError(
            file=file, field="prompt", what=f"{path} cannot be read; name a text file, or one of {names}"
        ) from exc
    if not text:
        raise JudgeFileError(file=file, field="prompt", what=f"{path} is empty; write the question in it")
    return text
