"""Arms: what is compared. An arm is a name and the pin that the gateway is asked to obey."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from eval.errors import ArmError
from serving.errors import PromptFileError
from serving.prompting import PromptTemplate, load_prompt
from serving.versions import prompt_definition, prompt_from_json

#: Words that stand for whatever the rail's pointer names when the run begins.
POINTER_WORDS = ("stable", "canary", "previous", "fallback")
#: The same of the knowledge rail alone, which has no fallback but a version that is only watched.
KNOWLEDGE_WORDS = ("stable", "canary", "previous", "shadow")
#: Another index version than the stable one: the canary, else the shadow, else the only other ready one.
IMPROVED = "improved"

_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,39}\Z")
_KEYS = ("knowledge", "model", "context", "prompt", "constrained", "kind")
_WANTED = "knowledge:ID, model:ID, context:none|gold, prompt:FILE, constrained:yes|no, kind:KIND"
_YES_NO = {"yes": True, "no": False}
#: Answers without retrieval.
NO_CONTEXT = "none"
#: The gold documents of each question are given instead of retrieved.
GOLD_CONTEXT = "gold"


class ArmKind(StrEnum):
    """What an arm stands for when its failures are read and fixes are weighed."""

    PROMPT = "prompt"
    RAG = "rag"
    RAG_PLUS = "rag_plus"
    ORACLE = "oracle"
    TUNED = "tuned"
    HYBRID = "hybrid"


#: Arms whose name says more than their pin does.
_KINDS = {"rag": ArmKind.RAG, "rag_improved": ArmKind.RAG_PLUS, "rag_plus": ArmKind.RAG_PLUS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """What the gateway must use."""

    knowledge: str | None = None
    model: str | None = None
    context: str | None = None
    #: The day whose facts count, ISO; None: today. Re-runs ask for it, no arm of a run does.
    effective_on: str | None = None
    #: A prompt to try in place of the model version's own.
    prompt: PromptTemplate | None = None
    #: Whether the engine holds the model to the schema; None: as its version says.
    constrained: bool | None = None

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """The pin of an arm's plain data."""
        prompt = row.get("prompt")
        return cls(**{**row, "prompt": prompt_from_json(prompt) if prompt else None})

    def as_body(self) -> dict[str, Any]:
        """The pin as `POST /v1/answers` takes it, but for gold documents: those are the question's."""
        fields = {
            "knowledge": self.knowledge,
            "model": self.model,
            "context": self.context,
            "effective_on": self.effective_on,
            "prompt": prompt_definition(self.prompt) if self.prompt else None,
            "constrained": self.constrained,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def __str__(self) -> str:
        """As it is written on a command line, with the prompt's name for its file."""
        shown = {**self.as_body(), **({"prompt": self.prompt.name} if self.prompt else {})}
        return ",".join(f"{name}:{value}" for name, value in shown.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A way to answer, pinned for a whole run."""

    name: str
    pin: Pin
    #: The kind that was written down; "" where name and pin say it.
    stated: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """The arm that `as_json` wrote."""
        return cls(name=row["name"], pin=Pin.from_json(row["pin"]), stated=row["stated"])

    @property
    def retrieves(self) -> bool:
        """Whether retrieval takes part; without it retrieval metrics do not apply."""
        return self.pin.context is None

    @property
    def reads_knowledge(self) -> bool:
        """Whether a knowledge version takes part: gold documents are of one, and so is what answers the
        questions that have none."""
        return self.pin.context != NO_CONTEXT

    @property
    def kind(self) -> ArmKind:
        """What it stands for. The base model is known by the word `fallback`: resolving an arm states it."""
        if self.stated:
            return ArmKind(self.stated)
        if self.pin.context == GOLD_CONTEXT:
            return ArmKind.ORACLE
        if self.pin.context == NO_CONTEXT:
            return ArmKind.PROMPT if self.pin.model == "fallback" else ArmKind.TUNED
        if self.name in _KINDS:
            return _KINDS[self.name]
        return ArmKind.RAG if self.pin.model == "fallback" else ArmKind.HYBRID


#: The arms of the first question everybody asks: does retrieval help, does tuning help?
DEFAULT_ARMS = (
    Arm(name="prompt_only", pin=Pin(model="fallback", context="none")),
    Arm(name="rag_base", pin=Pin(knowledge="stable", model="fallback")),
    Arm(name="rag_tuned", pin=Pin(knowledge="stable", model="stable")),
)
#: Arms that are asked by name only: each costs as much as any other.
OTHER_ARMS = (
    Arm(name="oracle", pin=Pin(knowledge="stable", model="fallback", context=GOLD_CONTEXT)),
    Arm(name="rag_improved", pin=Pin(knowledge=IMPROVED, model="fallback")),
    Arm(name="tuned", pin=Pin(model="stable", context=NO_CONTEXT)),
)


def parse_arm(text: str) -> Arm:
    """Read `name=knowledge:...,model:...,context:...,prompt:FILE,constrained:...,kind:...`; a rail left out
    is its stable version."""
    name, equals, rest = text.partition("=")
    if not equals or not _NAME.match(name):
        raise ArmError(
            f"--arm {text!r}: wants name= and any of {_WANTED}, "
            "with a name of small letters, digits, '_', '.' and '-'"
        )
    values: dict[str, str] = {}
    for part in filter(None, rest.split(",")):
        key, colon, value = part.partition(":")
        if key not in _KEYS or not colon or not value:
            raise ArmError(f"--arm {name}: {part!r} is not one of {_WANTED}")
        if key in values:
            raise ArmError(f"--arm {name}: {key} is given twice; keep one")
        values[key] = value
    if values.get("context", NO_CONTEXT) not in (NO_CONTEXT, GOLD_CONTEXT):
        raise ArmError(
            f"--arm {name}: context:{values['context']} is unknown; write none or gold, or leave it out"
        )
    if values.get("constrained", "yes") not in _YES_NO:
        raise ArmError(f"--arm {name}: constrained:{values['constrained']} is unknown; write yes or no")
    if "kind" in values and values["kind"] not in list(ArmKind):
        raise ArmError(f"--arm {name}: kind:{values['kind']} is unknown; choose from {', '.join(ArmKind)}")
    if values.get("context") == NO_CONTEXT and "knowledge" in values:
        raise ArmError(f"--arm {name}: context:none reads no knowledge; drop knowledge:{values['knowledge']}")
    return Arm(
        name=name,
        pin=Pin(
            knowledge=values.get("knowledge"),
            model=values.get("model"),
            context=values.get("context"),
            prompt=_read_prompt(name, values["prompt"]) if "prompt" in values else None,
            constrained=_YES_NO[values["constrained"]] if "constrained" in values else None,
        ),
        stated=values.get("kind", ""),
    )


def _read_prompt(arm: str, file: str) -> PromptTemplate:
    try:
        return load_prompt(Path(file))
    except PromptFileError as exc:
        raise ArmError(f"--arm {arm}: prompt:{exc}") from exc


def choose_arms(names: Sequence[str], written: Sequence[Arm]) -> tuple[Arm, ...]:
    """The default arms by name, then the written ones; a written arm replaces a default of its name."""
    by_name = {arm.name: arm for arm in (*DEFAULT_ARMS, *OTHER_ARMS)}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise ArmError(f"--arms: no arm is called {unknown[0]!r}; use {', '.join(by_name)} or --arm")
    repeated = {arm.name for arm in written if [other.name for other in written].count(arm.name) > 1}
    if repeated:
        raise ArmError(f"--arm: {sorted(repeated)[0]!r} is given twice; give each arm a name of its own")
    default = () if written else [arm.name for arm in DEFAULT_ARMS]
    chosen = {name: by_name[name] for name in names or default}
    chosen |= {arm.name: arm for arm in written}
    return tuple(chosen.values())


def improved_version(pointer: Mapping[str, str | None], versions: Sequence[Mapping[str, Any]]) -> str | None:
    """The index version that is to be better than the stable one, with the documents of the same snapshot.

    `pointer` is that of the knowledge rail, `versions` all that it has. None where there is no other one.
    """
    if pointed := pointer.get("canary") or pointer.get("shadow"):
        return pointed
    stable, at, snapshot = (pointer.get("stable") or "").partition("@")
    ready = sorted(str(each["id"]) for each in versions if each["state"] == "ready" and each["id"] != stable)
    if len(ready) > 1:
        raise ArmError(
            f"several index versions are ready beside the stable one ({', '.join(ready)}), and neither "
            "canary nor shadow says which is meant; name one: --arm rag_improved=knowledge:ID,model:fallback"
        )
    return f"{ready[0]}{at}{snapshot}" if ready else None


def resolve_arms(arms: Sequence[Arm], pointers: Mapping[str, Mapping[str, str | None]]) -> tuple[Arm, ...]:
    """Replace `stable` and the like by version ids, so that a rail that moves during a run changes nothing.

    `pointers` maps a rail to its pointer words and ids. The caller adds `improved`, which no pointer names.
    """
    resolved = tuple(
        replace(
            arm,
            pin=Pin(
                knowledge=_resolve(arm, "knowledge", pointers) if arm.reads_knowledge else None,
                model=_resolve(arm, "model", pointers),
                context=arm.pin.context,
                prompt=arm.pin.prompt,
                constrained=arm.pin.constrained,
            ),
            stated=arm.kind,
        )
        for arm in arms
    )
    for index, arm in enumerate(resolved):
        twin = next((other for other in resolved[:index] if other.pin == arm.pin), None)
        if twin is not None:
            raise ArmError(
                f"--arms: {twin.name} and {arm.name} are the same pin ({arm.pin}); "
                "leave one out, or register the tuned model and promote it first"
            )
    return resolved


def _resolve(arm: Arm, rail: str, pointers: Mapping[str, Mapping[str, str | None]]) -> str | None:
    asked = (arm.pin.knowledge if rail == "knowledge" else arm.pin.model) or "stable"
    if asked not in (*POINTER_WORDS, IMPROVED):
        return asked
    version = pointers.get(rail, {}).get(asked)
    if version is None and asked == IMPROVED:
        raise ArmError(
            f"arm {arm.name}: no index version beside the stable one; build one (`twinrail knowledge build`) "
            f"or name one: --arm {arm.name}=knowledge:ID,model:fallback"
        )
    if version is None:
        raise ArmError(f"arm {arm.name}: no {asked} version on the {rail} rail; pin a version id")
    return version
