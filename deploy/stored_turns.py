"""Stored answers against a new task schema: a change that programs and evaluation will meet is said first."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.database import Pool
from gateway.database import Database
from gateway.outcome import Unfit, parse_draft, text_field, validator_of
from gateway.turns import TurnStore
from serving.registry import ModelRegistry
from serving.versions import ModelVersion

#: Of each tenant, the newest.
TURNS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfitTurns:
    """How many stored answers of the same task a schema would not let pass."""

    checked: int
    unfit: int
    #: What is wrong with the first of them.
    reason: str = ""

    def told(self, task: str) -> str:
        """The warning."""
        return (
            f"warning: --schema: {self.unfit} of the last {self.checked} stored answers of {task} do not fit "
            f"it ({self.reason}): whatever reads their fields and the new ones must know both; give the "
            "schema another title if it is another task"
        )


async def unfit_turns(connections: Pool, version: ModelVersion) -> UnfitTurns:
    """Check what the last turns of the task's other schemas said against this version's schema."""
    older = [
        each.id
        for each in await ModelRegistry(connections).versions()
        if each.version.task == version.task and each.version.schema != version.schema
    ]
    if not older:
        return UnfitTurns(checked=0, unfit=0)
    from retrieval.store import KnowledgeStore  # weighs too much for a first version of a task

    turns = TurnStore(Database(connections))
    validator, field = validator_of(version.schema), text_field(version.schema)
    checked, reasons = 0, list[str]()
    for tenant in await KnowledgeStore(connections).tenants():
        for text in await turns.drafts(tenant, older, limit=TURNS):
            checked += 1
            read = parse_draft(text, validator=validator, field=field)
            if isinstance(read, Unfit):
                reasons.append(read.reason)
    return UnfitTurns(checked=checked, unfit=len(reasons), reason=reasons[0] if reasons else "")
