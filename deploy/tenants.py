"""Tenants on the command line: a name that nobody has published under is most likely a typing mistake."""

from __future__ import annotations

import argparse

from deploy.database import Pool
from deploy.errors import UsageError


def add_new_tenant(command: argparse.ArgumentParser) -> None:
    """Declare how a command is told that it begins a tenant."""
    command.add_argument(
        "--new-tenant",
        action="store_true",
        help="begin a tenant beside those that there are (the first one needs no flag)",
    )


async def require_tenant(connections: Pool, tenant: str, *, new: bool | None = None) -> None:
    """Refuse a tenant for which nothing was ever published or queued.

    `new` says whether one may begin here; None: this command begins none. While there is no tenant at all,
    every name is as good as another.
    """
    from retrieval.jobs import JobStore  # both weigh too much for every other command
    from retrieval.store import KnowledgeStore

    store = KnowledgeStore(connections)
    known = sorted({*await store.tenants(), *await JobStore(store).tenants()})
    if new or not known or tenant in known:
        return
    fix = "choose one of those" if new is None else "choose one of those, or begin one with --new-tenant"
    raise UsageError(f"--tenant: there is no tenant {tenant!r}; known: {', '.join(known)}; {fix}")
