"""What a reconciler has to do on one engine: decided from what is wanted and what was seen, without asking.

Level-triggered: each plan is made anew from the whole state, so nothing depends on what an earlier round, or
another process, meant to do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from serving.replicas import Fleet, Holding, HoldingState, Lack, Replica
from serving.versions import RegisteredVersion


class Step(StrEnum):
    """What to do with one version on one engine."""

    LOAD = "load"
    PROBE = "probe"
    #: It is an adapter that nobody wants any more.
    EVICT = "evict"
    #: It has no business here: forget what was known of it.
    RELEASE = "release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One step for one version."""

    step: Step
    version: str


def plan(
    replica: Replica,
    holdings: Mapping[str, Holding],
    wanted: Sequence[RegisteredVersion],
    *,
    merged: Collection[str] = (),
    evictable: Collection[str] = (),
    comparable: Collection[str] = (),
) -> list[Action]:
    """The steps for an engine that answers, the most important version first.

    `merged` are names that some engine serves as weights of their own; `evictable` are names of registered
    versions that nobody has wanted for long enough; `comparable` are versions whose probe had nothing to
    compare with, and now has. An adapter that no version accounts for is reported and left alone: it is
    somebody's.
    """
    actions = []
    for version in wanted:
        held = holdings.get(version.id)
        if version.served_name in replica.listed:
            shown = held is not None and held.state is HoldingState.PROBED and held.life == replica.life
            if not shown or version.id in comparable:
                actions.append(Action(step=Step.PROBE, version=version.id))
        elif takes(version, replica, merged=version.served_name in merged):
            actions.append(Action(step=Step.LOAD, version=version.id))
        elif held is not None:
            actions.append(Action(step=Step.RELEASE, version=version.id))
    ids, names = ({version.id for version in wanted}, {version.served_name for version in wanted})
    actions += [
        Action(step=Step.EVICT, version=name)
        for name in replica.adapters
        if name not in names and name in evictable
    ]
    actions += [Action(step=Step.RELEASE, version=gone) for gone in holdings if gone not in ids]
    return actions


def takes(version: RegisteredVersion, replica: Replica, *, merged: bool) -> bool:
    """Whether the version belongs on this engine as an adapter: it runs the base, and no engine serves the
    version as weights of its own."""
    return (
        version.version.adapter_digest is not None
        and version.served_name == version.id
        and version.version.base_digest in replica.bases
        and replica.takes_adapters is not False
        and not replica.leaving
        and not merged
    )


def lacks_of(version: RegisteredVersion, fleet: Fleet) -> list[Lack]:
    """Which live engines should hold the version and are not shown to; empty: it may be routed to.

    An engine that is down takes no traffic and so keeps nothing waiting; when it is back it is probed before
    it gets any.
    """
    merged = fleet.merged(version.served_name)
    places = [
        replica
        for replica in fleet.replicas
        if replica.is_live
        and (version.served_name in replica.listed or takes(version, replica, merged=merged))
    ]
    if not places:
        return [_nowhere(fleet)]
    return [_lack(version, replica, fleet) for replica in places if not _is_ready(version, replica, fleet)]


def _is_ready(version: RegisteredVersion, replica: Replica, fleet: Fleet) -> bool:
    return version.served_name in replica.listed and fleet.is_shown(replica, version.id)


def _lack(version: RegisteredVersion, replica: Replica, fleet: Fleet) -> Lack:
    held = fleet.holding(replica.url, version.id)
    is_listed = version.served_name in replica.listed
    if (
        held is not None
        and held.life == replica.life
        and (is_listed or held.state is not HoldingState.PROBED)
    ):
        return Lack(url=replica.url, state=held.state.value, reason=held.reason)
    if is_listed:
        return Lack(url=replica.url, state=HoldingState.LISTED.value, reason="not probed since it started")
    return Lack(url=replica.url, state=HoldingState.WANTED.value, reason="it does not list it yet")


def _nowhere(fleet: Fleet) -> Lack:
    lists = sorted({name for replica in fleet.replicas if replica.is_live for name in replica.listed})
    down = [f"{each.url}: {each.reason or 'leaving'}" for each in fleet.replicas if not each.is_live]
    reason = f"no live engine lists it or runs its base; they list {', '.join(lists) or 'nothing'}"
    if down:
        reason += f"; not live: {'; '.join(down)}"
    return Lack(url="engines", state=HoldingState.WANTED.value, reason=reason)
