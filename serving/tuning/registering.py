"""Register: what version a training run makes, and whether a verdict lets it take traffic.

Decisions only. Who asks copies the weights and writes the registry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.adapter_checks import AdapterFacts
from serving.errors import ManifestError, VerdictError
from serving.manifests import RUN_RECORD
from serving.versions import Decoding, ModelVersion, prompt_definition, prompt_from_json, sha256_of

PASS, REFUSED, NOT_ENOUGH = "pass", "refused", "not_enough"


def version_of_run(
    record: Mapping[str, Any], facts: AdapterFacts, *, folder: Path, name: str | None = None
) -> ModelVersion:
    """The version that a run makes: its adapter with the prompt and the schema that it was trained for."""
    file = folder / RUN_RECORD
    made = record.get("definition")
    if not isinstance(made, Mapping):
        raise ManifestError(
            f"{file}: holds no record of `twinrail tune train`; give the folder of a run, or register an "
            "adapter from elsewhere with `twinrail model register --adapter`"
        )
    try:
        version = ModelVersion(
            name=name or str(record["name"]),
            base_digest=facts.base,
            adapter_digest=facts.digest,
            prompt=prompt_from_json(made["prompt"]),
            task=str(made["task"]),
            schema=made["schema"],
            decoding=Decoding(max_tokens=int(made["max_tokens"])),
            prompt_budget_tokens=int(made["prompt_budget_tokens"]),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise ManifestError(f"{file}: definition: {exc!r} is missing or wrong; train again") from exc
    found = {
        "prompt_sha256": sha256_of(prompt_definition(version.prompt)),
        "schema_sha256": sha256_of(version.schema),
    }
    for field, digest in found.items():
        if record.get(field) != digest:
            raise ManifestError(
                f"{file}: {field}: is {str(record.get(field))[:8]}, and what the file holds hashes to "
                f"{digest[:8]}: it was edited; restore it, or train again"
            )
    return version


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a gate said of a version."""

    gate: str
    version: str
    verdict: str
    #: The report that it rests on, and its digest.
    report: str
    sha256: str

    def require_about(self, version_id: str) -> None:
        """Refuse a verdict of another version."""
        if self.version != version_id:
            raise VerdictError(
                f"{self.report}: version: is {self.version}, and this run is {version_id}: another adapter, "
                f"prompt or name; evaluate this one (`twinrail tune evaluate {version_id}`)"
            )

    def require_passing(self, version_id: str) -> None:
        """Refuse a verdict of another version, and one that is no pass."""
        self.require_about(version_id)
        if self.verdict != PASS:
            raise VerdictError(
                f"{self.report}: the gate {self.gate} says {self.verdict} of {version_id}, not {PASS}; "
                "read the report, mend the data or the recipe, and train again"
            )

    def reason(self) -> str:
        """What the audit keeps."""
        return f"the gate {self.gate} passed it: {self.report} (sha256 {self.sha256[:12]})"


def with_version(folder: Path, version_id: str) -> None:
    """Note in a run's record which version it is, so that the folder can be named in its stead."""
    file = folder / RUN_RECORD
    record = json.loads(file.read_text(encoding="utf-8"))
    if record.get("version") == version_id:
        return
    draft = file.with_name(f".{file.name}")
    text = json.dumps({**record, "version": version_id}, indent=1, ensure_ascii=False)
    draft.write_text(text + "\n", encoding="utf-8")
    draft.replace(file)
