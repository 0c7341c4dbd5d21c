"""What `twinrail eval run` does with some arms, on a gateway that a test has started."""

from __future__ import annotations

import io
from collections.abc import Sequence

from eval.arms import Arm, resolve_arms
from eval.cases import CaseSet
from eval.client import GatewayClient
from eval.record import RunData, RunFolder
from eval.run import measure, plan


async def asked_all(
    client: GatewayClient, url: str, folder: RunFolder, cases: CaseSet, arms: Sequence[Arm]
) -> RunData:
    """Every case in every arm; the folder is left as a run leaves it."""
    pointers = await client.pointers()
    record = plan(
        run_id="real",
        gateway_url=url,
        cases=cases,
        selection={},
        requested=arms,
        arms=resolve_arms(arms, pointers),
        stable_knowledge=pointers["knowledge"]["stable"],
    )
    folder.create(record, cases)
    return await measure(folder, client, concurrency=2, out=io.StringIO())
