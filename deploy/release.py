"""What `twinrail up` puts on the model rail: versions always, the pointer only when there is none yet.

Where the pointer stands is an operator's decision from the first start on, so a later start never moves it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deploy.errors import DeployError
from deploy.models import TASK, LocalModels
from serving.errors import AdapterFileError, NoStableVersionError, VersionUnreadableError
from serving.manifests import Manifest, manifest_file, write_manifest
from serving.pool import EngineHealth
from serving.prompting import PROMPTS, load_prompt
from serving.registry import ModelRegistry
from serving.versions import SCHEMAS, ModelVersion, Pointer, RegisteredVersion, load_task_schema

AUTHOR = "twinrail up"
#: What is known of somebody else's model.
OUTSIDE = {"source": "SERVING_ENGINES", "served_as": "outside"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """Where the model rail stands after the versions were registered."""

    pointer: Pointer
    #: The version that this release would make stable.
    shipped: str
    #: What an operator should know, or "".
    advice: str = ""


async def release_shipped(registry: ModelRegistry, models: LocalModels) -> Released:
    """Register what this release ships.

    On an empty rail the base goes first and the tuned model over it, so that there is something to undo to.
    A row that was damaged or changed since is told of, and keeps nothing else from starting.
    """
    base, tuned = models.base_version(), models.tuned_version()
    facts: dict[str, Any] = {"source": "wheel", "served_as": "base"}
    wanted, damaged = base, []
    for version, known in ((base, facts), (tuned, _made(models))):
        if version is None:
            continue
        try:
            registered = await registry.register(version, manifest=known, author=AUTHOR)
        except (VersionUnreadableError, AdapterFileError) as exc:
            damaged.append(str(exc))
            continue
        _lay_beside(models, registered)
        wanted = version
    pointer = await _pointer(registry)
    if pointer is None:
        await registry.promote(base.id)
        if tuned:
            await registry.promote(tuned.id)
        return Released(pointer=await registry.set_fallback(base.id), shipped=wanted.id)
    in_use = {pointer.stable, pointer.canary, pointer.previous}
    advice = damaged
    if not damaged and wanted.id not in in_use:
        advice = [f"this release ships another one: `twinrail promote model {wanted.id}`"]
    return Released(pointer=pointer, shipped=wanted.id, advice="; ".join(advice))


async def use_given(registry: ModelRegistry, engines: Sequence[EngineHealth]) -> Released:
    """Register what the engines of SERVING_ENGINES list. On an empty rail the first becomes stable."""
    names = list(dict.fromkeys(name for engine in engines for name in engine.served))
    if not names:
        reasons = "; ".join(f"{engine.url}: {engine.reason or 'lists no model'}" for engine in engines)
        raise DeployError(f"SERVING_ENGINES: nothing to serve with ({reasons}); start vLLM there")
    known = await _answerers(registry)
    damaged: VersionUnreadableError | None = None
    for name in names:
        if name not in known:
            version = _outside_version(name)
            try:
                await registry.register(version, manifest=OUTSIDE, served_name=name, author=AUTHOR)
            except VersionUnreadableError as exc:
                damaged = exc
    known = await _answerers(registry)
    answering = [known[name].id for name in names if name in known]
    if damaged is not None and not answering:
        raise damaged
    shipped = answering[0]
    pointer = await _pointer(registry)
    if pointer is None:
        pointer = await registry.promote(shipped)
    try:
        stable = await registry.version(pointer.stable)
    except VersionUnreadableError as exc:
        return Released(pointer=pointer, shipped=shipped, advice=str(exc))
    if stable.served_name in names:
        return Released(pointer=pointer, shipped=shipped)
    return Released(
        pointer=pointer,
        shipped=shipped,
        advice=f"no engine of SERVING_ENGINES serves the stable {stable.id}; they list {', '.join(names)}: "
        f"`twinrail promote model {shipped}`",
    )


def _made(models: LocalModels) -> dict[str, Any]:
    """How the shipped version was made, and the form that this machine serves it in."""
    return {**models.manifest, "source": "this release", "served_as": models.form.value}


def _lay_beside(models: LocalModels, registered: RegisteredVersion) -> None:
    """Write the manifest to where the weights lie. One that is there is left alone: several databases may
    share these weights, and `twinrail model show` says where a file and the registry do not agree."""
    root = models.folders.root
    if root.is_dir() and not manifest_file(root, registered.id).exists():
        write_manifest(root, Manifest.from_json(registered.manifest))


def digest_of_name(served_name: str) -> str:
    """Somebody else's model: its bytes are unknown here, so its name takes the place of their digest."""
    return hashlib.sha256(f"served name {served_name}".encode()).hexdigest()


def _outside_version(served_name: str) -> ModelVersion:
    slug = re.sub(r"[^a-z0-9]+", "-", served_name.rsplit("/", 1)[-1].lower()).strip("-").removeprefix("m-")
    return ModelVersion(
        name=slug or "model",
        base_digest=digest_of_name(served_name),
        adapter_digest=None,
        prompt=load_prompt(PROMPTS / "support_strong.yaml"),
        task=TASK,
        schema=load_task_schema(SCHEMAS / f"{TASK}.json"),
    )


async def _answerers(registry: ModelRegistry) -> dict[str, RegisteredVersion]:
    """Served name -> its first version that answers customers; those of other tasks may share the name."""
    found: dict[str, RegisteredVersion] = {}
    for registered in await registry.versions():
        if registered.version.task == TASK:
            found.setdefault(registered.served_name, registered)
    return found


async def _pointer(registry: ModelRegistry) -> Pointer | None:
    try:
        return await registry.pointer()
    except NoStableVersionError:
        return None
