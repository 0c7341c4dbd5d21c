"""Which arm of a rail a unit gets: pure, sticky, salted.

A unit keeps its bucket for as long as the salt stays, so a ramp from 5 % to 25 % moves only the units
between, and each at most once. The rail's name is part of the hash: the two rails split independently of each
other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Protocol

BUCKETS = 10_000


class Arm(StrEnum):
    """What part of a rollout an answer belongs to."""

    STABLE = "stable"
    CANARY = "canary"
    #: Repeats searches of the stable arm unseen: no answer belongs to it.
    SHADOW = "shadow"
    #: Chosen by the caller through `pin`; never counted.
    PINNED = "pinned"
    #: The rail took no part (no retrieval, or no generation).
    NONE = "none"


class Rail(StrEnum):
    """The two rails."""

    KNOWLEDGE = "knowledge"
    MODEL = "model"


class Pointer(Protocol):
    """What both rails' pointers have in common. Properties, because both are frozen."""

    @property
    def stable(self) -> str | None: ...
    @property
    def canary(self) -> str | None: ...
    @property
    def canary_weight_bp(self) -> int: ...
    @property
    def salt(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The arm of one rail for one unit, and the version behind it (None: the rail has no version yet)."""

    arm: Arm
    version: str | None


def bucket(salt: str, rail: str, unit: str) -> int:
    """The unit's place on the rail, 0 to 9999."""
    return int.from_bytes(sha256(f"{salt}:{rail}:{unit}".encode()).digest()[:8], "big") % BUCKETS


def choose_arm(pointer: Pointer, *, rail: Rail, unit: str) -> Assignment:
    """Canary if the unit's bucket lies below the weight, else stable."""
    if pointer.canary is not None and bucket(pointer.salt, rail, unit) < pointer.canary_weight_bp:
        return Assignment(arm=Arm.CANARY, version=pointer.canary)
    return Assignment(arm=Arm.STABLE, version=pointer.stable)
