"""The prompts that a search compares: every instruction with every set of worked examples in every order.

A grid is declared in a file, so that what was tried can be read and tried again. It says nothing of results.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eval.errors import PromptGridError
from serving.prompting import PromptTemplate, Shot, Shown
from serving.versions import prompt_definition, sha256_of

#: The prompt that the model version has already: what every other one is compared with.
CURRENT = "current"
_MOST_PROMPTS = 64
#: Becomes the name of an arm.
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,39}\Z")
_REVERSED = "reversed"

_Text = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class _Example(_Part):
    context: str = ""
    question: _Text
    answer: _Text


class _Grid(_Part):
    name: _Text
    instructions: Annotated[Mapping[str, _Text], Field(min_length=1)]
    examples: Mapping[str, _Example] = {}
    #: Which examples stand in a prompt together; a grid without sets has prompts without examples.
    sets: Annotated[Mapping[str, tuple[str, ...]], Field(min_length=1)] = {"none": ()}
    orders: Annotated[tuple[Literal["given", "reversed"], ...], Field(min_length=1)] = ("given",)
    #: What its prompts show of the hits.
    shows: Shown = "passages"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One prompt of a search. `prompt` is None for the one that the model version has."""

    name: str
    prompt: PromptTemplate | None

    @property
    def sha256(self) -> str:
        """What the prompt is known by; "" for the version's own, which the gateway keeps."""
        return sha256_of(prompt_definition(self.prompt)) if self.prompt else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The prompts of one file, the one that there is left out."""

    path: Path
    sha256: str
    candidates: tuple[Candidate, ...]


def read_grid(path: Path, schema: Mapping[str, Any]) -> Grid:
    """The grid of a file; what would only fail in front of the model is refused here."""
    try:
        content = path.read_bytes()
        raw = yaml.safe_load(content)
    except OSError as exc:
        raise PromptGridError(f"{path}: {exc.strerror}; name a file of prompts (--grid)") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise PromptGridError(f"{path}: not YAML ({exc}); docs/prompt-search.md shows one") from exc
    try:
        grid = _Grid.model_validate(raw)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise PromptGridError(f"{path}: {field}: {first['msg']}; docs/prompt-search.md shows a grid") from exc
    _check_examples(path, grid, schema)
    candidates = tuple(_candidates(path, grid))
    if not candidates:
        raise PromptGridError(
            f"{path}: orders: makes no prompt, for no set has two examples to turn round; add the order given"
        )
    if len(candidates) > _MOST_PROMPTS:
        raise PromptGridError(
            f"{path}: makes {len(candidates)} prompts, and {_MOST_PROMPTS} are the most; drop some sets"
        )
    names = [each.name for each in candidates]
    if twice := [name for name in names if names.count(name) > 1]:
        raise PromptGridError(
            f"{path}: {twice[0]}: two prompts have this name, put together from instruction, set and order; "
            "rename one of these, or keep one"
        )
    return Grid(path=path, sha256=hashlib.sha256(content).hexdigest(), candidates=candidates)


def _check_examples(path: Path, grid: _Grid, schema: Mapping[str, Any]) -> None:
    for name, names in grid.sets.items():
        if unknown := [each for each in names if each not in grid.examples]:
            raise PromptGridError(f"{path}: sets.{name}: no example is called {unknown[0]!r}; declare it")
        if len(set(names)) < len(names):
            raise PromptGridError(f"{path}: sets.{name}: names an example twice; keep one")
    validator = Draft202012Validator(schema)
    for name, example in grid.examples.items():
        try:
            broken = next(iter(validator.iter_errors(orjson.loads(example.answer))), None)
        except orjson.JSONDecodeError as exc:
            raise PromptGridError(
                f"{path}: examples.{name}.answer: not JSON ({exc.msg}); write what the model should"
            ) from exc
        if broken is not None:
            raise PromptGridError(
                f"{path}: examples.{name}.answer: {broken.json_path}: {broken.message}; an example "
                "that breaks the schema teaches what decoding forbids"
            )


def _candidates(path: Path, grid: _Grid) -> Iterator[Candidate]:
    for (instruction, text), (chosen, names), order in product(
        grid.instructions.items(), grid.sets.items(), grid.orders
    ):
        turned = order == _REVERSED
        if turned and len(names) < 2:
            continue
        name = f"{instruction}-{chosen}{'-reversed' if turned else ''}"
        if not _NAME.match(name) or name == CURRENT:
            raise PromptGridError(
                f"{path}: {name}: cannot name a prompt; use small letters, digits, '_', '.' and '-', "
                "at most 40 in all"
            )
        yield Candidate(
            name=name,
            prompt=PromptTemplate(
                name=f"{grid.name}_{name}",
                system=text,
                shots=tuple(_shots(grid, reversed(names) if turned else names)),
                shows=grid.shows,
            ),
        )


def _shots(grid: _Grid, names: Sequence[str] | Iterator[str]) -> Iterator[Shot]:
    for name in names:
        example = grid.examples[name]
        yield Shot(context=example.context, question=example.question, answer=example.answer)
