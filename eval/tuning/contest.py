"""Who is compared: the candidate, the base model with a strong prompt, and what customers get now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from eval.arms import Arm, ArmKind, Pin, resolve_arms
from eval.errors import ArmError
from serving.prompting import PromptTemplate

CANDIDATE: Final = "candidate"
STRONG: Final = "strong"
STABLE: Final = "stable"
#: What the strong prompt is to the rail: the base model that answers when a tuned one cannot.
_FALLBACK: Final = "fallback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Strong:
    """The strong prompt: a version that has it, or a prompt to try on one."""

    #: None: the fallback version of the rail.
    version: str | None = None
    prompt: PromptTemplate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """The arms, pinned to ids; the candidate is the first."""

    arms: tuple[Arm, ...]
    #: Why an arm is left out.
    notes: tuple[str, ...] = ()

    @property
    def candidate(self) -> Arm:
        """The version that has to earn its place."""
        return self.arms[0]

    @property
    def comparators(self) -> tuple[Arm, ...]:
        """What it is compared with."""
        return self.arms[1:]


def arrange(
    candidate: str,
    strong: Strong,
    pointers: Mapping[str, Mapping[str, str | None]],
    tasks: Mapping[str, str],
) -> Contest:
    """The arms of an evaluation; a comparator that is another arm already, or does another task, is left out
    and said so.

    `tasks` is the task of each version.
    """
    model = pointers.get("model", {})
    base = strong.version or model.get(_FALLBACK)
    if base is None:
        raise ArmError(
            "--strong: the model rail has no fallback version, which is the base model with the strong "
            "prompt; name a version (`--strong m-...`)"
        )
    if base == candidate and strong.prompt is None:
        raise ArmError(
            f"--strong: {candidate} is the candidate itself; name the version of the base model with a "
            "strong prompt, or a prompt file to try on it"
        )
    if base not in tasks:
        raise ArmError(
            f"--strong: {base}: no such version on the model rail; `twinrail model versions` lists them"
        )
    if tasks[base] != tasks[candidate]:
        raise ArmError(
            f"--strong: {base} does the task {tasks[base]}, and {candidate} {tasks[candidate]}; name the "
            "version of the base model with a strong prompt for it"
        )
    arms = [
        _arm(CANDIDATE, candidate, ArmKind.HYBRID),
        _arm(STRONG, base, ArmKind.RAG, prompt=strong.prompt),
    ]
    stable = model.get(STABLE)
    notes: tuple[str, ...] = ()
    if stable is None:
        notes = ("the rail has no stable version to compare with",)
    elif stable == candidate:
        notes = (f"{candidate} is the stable version itself",)
    elif stable == base and strong.prompt is None:
        notes = (f"the stable version is the base model with the strong prompt ({base})",)
    elif tasks[stable] != tasks[candidate]:
        notes = (f"the stable version ({stable}) does another task, {tasks[stable]}",)
    else:
        arms.append(_arm(STABLE, stable, ArmKind.HYBRID))
    return Contest(arms=resolve_arms(arms, pointers), notes=notes)


def freely(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """The same arms with nothing that holds the model to the schema."""
    return tuple(replace(arm, pin=replace(arm.pin, constrained=False)) for arm in arms)


def named(arm: Arm) -> str:
    """The version of an arm, and the prompt where it is not its own."""
    own = arm.pin.model or ""
    return f"{own} with the prompt {arm.pin.prompt.name}" if arm.pin.prompt else own


def _arm(name: str, model: str, kind: ArmKind, *, prompt: PromptTemplate | None = None) -> Arm:
    return Arm(name=name, pin=Pin(knowledge="stable", model=model, prompt=prompt), stated=kind)
