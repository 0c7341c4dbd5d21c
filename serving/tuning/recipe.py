"""A recipe: everything that decides what a training run makes of a dataset, in one YAML file.

The same file is for CPU and CUDA. What a device changes is how the work is cut (`devices`): the rows of a
step, and so the steps, are the same on both.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from serving.errors import RecipeError
from serving.prompting import PROMPTS, PromptTemplate, load_prompt
from serving.versions import SCHEMAS, load_task_schema, prompt_definition, sha256_of

#: Part of a version's id, and so of a URL and of a shell word.
NAME = r"[a-z0-9][a-z0-9-]{0,39}"
Tokens = Annotated[int, Field(ge=1, le=131_072)]


class Device(StrEnum):
    """What a run computes on."""

    CPU = "cpu"
    CUDA = "cuda"


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Lora(_Block):
    """Size of the adapter. It is put on every linear layer but the output."""

    rank: int = Field(default=16, ge=1, le=256)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Training(_Block):
    """How the rows are gone through."""

    #: Passes over the rows; a part of one is allowed.
    epochs: float = Field(default=2.0, gt=0, le=100)
    #: Of all planned steps, at most so many are made; None: all.
    max_steps: int | None = Field(default=None, ge=1)
    #: Peak; it falls on a cosine to a tenth.
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    #: Share of the steps until the peak.
    warmup: float = Field(default=0.05, ge=0, lt=1)
    rows_per_step: int = Field(default=8, ge=1)
    #: Largest norm of a gradient.
    clip: float = Field(default=1.0, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    #: How often a token counts that says which value of a list a field has: beside a long answer it is one of
    #: many, and hardly learned.
    choice_weight: float = Field(default=1.0, gt=0, le=100)
    #: Longest row, prompt and completion; a longer one is refused, never cut.
    max_row_tokens: Tokens = 1024


class Validation(_Block):
    """When the loss on unseen groups is looked at, and when that ends the run. The best step is kept."""

    every_steps: int = Field(default=15, ge=1)
    #: Looks without a lower loss after which the run ends.
    patience: int = Field(default=3, ge=1)
    #: By how much the loss must fall to count as lower.
    least_gain: float = Field(default=0.0, ge=0)
    #: Of the validation rows, at most so many are looked at, the same each time.
    rows: int = Field(default=64, ge=1)


class DeviceShape(_Block):
    """How the work is cut on a device."""

    dtype: Literal["float32", "bfloat16"]
    #: Rows of a micro-batch; divides `rows_per_step`, or is not less than it.
    rows_at_once: int = Field(ge=1)
    #: Compute activations twice instead of keeping them: less memory, a third more time.
    recompute: bool = False


class Devices(_Block):
    """fp32 on CPU: measured faster than bf16 there."""

    cpu: DeviceShape = DeviceShape(dtype="float32", rows_at_once=2)
    cuda: DeviceShape = DeviceShape(dtype="bfloat16", rows_at_once=8)


class RecipeFile(_Block):
    """The file, field by field."""

    name: str = Field(pattern=rf"^{NAME}$")
    #: A packaged task schema or prompt by name, or a file beside the recipe.
    schema_: str = Field(alias="schema")
    prompt: str
    #: Tokens of the whole prompt, in rows and when it is served.
    prompt_budget_tokens: Tokens
    #: Tokens of the longest answer when it is served.
    answer_tokens: Tokens = 160
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    lora: Lora = Lora()
    training: Training = Training()
    validation: Validation = Validation()
    devices: Devices = Devices()
    checkpoint_every_steps: int = Field(default=20, ge=1)

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> RecipeFile:
        for name, shape in (("cpu", self.devices.cpu), ("cuda", self.devices.cuda)):
            if self.training.rows_per_step % min(shape.rows_at_once, self.training.rows_per_step):
                raise ValueError(
                    f"devices.{name}.rows_at_once: {shape.rows_at_once} does not divide "
                    f"training.rows_per_step {self.training.rows_per_step}; give a divisor of it"
                )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A recipe with the prompt and the task schema that it names."""

    file: RecipeFile
    #: Title of the schema.
    task: str
    schema: Mapping[str, Any]
    prompt: PromptTemplate

    @property
    def name(self) -> str:
        """What its versions are called."""
        return self.file.name

    def knobs(self) -> dict[str, Any]:
        """Every setting as plain data, defaults filled in."""
        return self.file.model_dump(by_alias=True)

    @property
    def sha256(self) -> str:
        """Digest of the settings; where the file lies and how it is laid out do not count."""
        return sha256_of(self.knobs())

    @property
    def prompt_sha256(self) -> str:
        """Digest of the prompt's wording."""
        return sha256_of(prompt_definition(self.prompt))

    @property
    def schema_sha256(self) -> str:
        """Digest of the task schema."""
        return sha256_of(self.schema)

    def definition(self) -> dict[str, Any]:
        """What a version that is made of it is, beside its weights and its name.

        In full, so that a run can be registered when the files that it was made from are gone.
        """
        return {
            "prompt": prompt_definition(self.prompt),
            "task": self.task,
            "schema": dict(self.schema),
            "max_tokens": self.file.answer_tokens,
            "prompt_budget_tokens": self.file.prompt_budget_tokens,
        }

    def shape(self, device: Device) -> DeviceShape:
        """How the work is cut on that device."""
        given = self.file.devices.cpu if device is Device.CPU else self.file.devices.cuda
        at_once = min(given.rows_at_once, self.file.training.rows_per_step)
        return given.model_copy(update={"rows_at_once": at_once})


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; RecipeError names the field and the fix."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise RecipeError(f"{path}: no such recipe file") from exc
    except IsADirectoryError as exc:
        raise RecipeError(f"{path}: is a folder; give the YAML file of a recipe") from exc
    except UnicodeDecodeError as exc:
        raise RecipeError(f"{path}: not UTF-8 text; a recipe is a YAML file") from exc
    except yaml.YAMLError as exc:
        raise RecipeError(f"{path}: not YAML ({' '.join(str(exc).split())})") from exc
    if not isinstance(raw, dict):
        raise RecipeError(
            f"{path}: must be a mapping with at least name, schema, prompt, prompt_budget_tokens"
        )
    try:
        file = RecipeFile.model_validate(raw)
    except ValidationError as exc:
        raise RecipeError(f"{path}: {'; '.join(_faults(exc))}") from exc
    schema_file = _named(path, "schema", file.schema_, SCHEMAS, ".json")
    schema = load_task_schema(schema_file)
    return Recipe(
        file=file,
        task=str(schema.get("title") or schema_file.stem),
        schema=schema,
        prompt=load_prompt(_named(path, "prompt", file.prompt, PROMPTS, ".yaml")),
    )


def _named(recipe: Path, field: str, given: str, packaged: Path, suffix: str) -> Path:
    """The packaged file of that name, else the file beside the recipe."""
    for path in (packaged / f"{given}{suffix}", recipe.parent / given):
        if path.is_file():
            return path
    known = ", ".join(sorted(file.stem for file in packaged.glob(f"*{suffix}")))
    raise RecipeError(f"{recipe}: {field}: no file {given!r} beside it; give one, or a packaged one: {known}")


def _faults(error: ValidationError) -> Iterator[str]:
    """Each fault with its field, what it holds, and what it may hold."""
    for fault in error.errors():
        where = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            *path, name = fault["loc"]
            known = _fields(path)
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.75)
            yield f"{where}: no such setting; " + (
                f"meant {near[0]}?" if near else f"known: {', '.join(known)}"
            )
        elif fault["type"] == "missing":
            yield f"{where}: is missing; add it"
        elif fault["type"] == "value_error":
            yield str(fault["ctx"]["error"])
        else:
            yield f"{where}: {fault['msg']}, not {fault['input']!r}{_hint(fault['input'])}"


def _hint(given: object) -> str:
    """YAML reads `1e-3` as text: it wants a point before the exponent."""
    try:
        return f"; write {float(given)} without quotes" if isinstance(given, str) else ""
    except ValueError:
        return ""


def _fields(path: list[int | str]) -> list[str]:
    """Settings of the block at that place."""
    block: Any = RecipeFile
    for name in path:
        annotation = block.model_fields[str(name)].annotation
        block = next((part for part in get_args(annotation) if isinstance(part, type)), annotation)
    return [field.alias or name for name, field in block.model_fields.items()]
