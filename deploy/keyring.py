"""The keys that `twinrail up` makes, once, and keeps for the commands of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.access import KeyStore, Scope, digest


@dataclass(frozen=True, slots=True)
class KeySpec:
    """What a key is for."""

    principals: tuple[str, ...]
    scopes: tuple[Scope, ...]


PUBLIC, EVERYTHING = ("public",), ("public", "staff")
SPECS: Mapping[str, KeySpec] = {
    "customer": KeySpec(PUBLIC, (Scope.ASK,)),
    "staff": KeySpec(EVERYTHING, (Scope.ASK, Scope.REVIEW)),
    "eval": KeySpec(PUBLIC, (Scope.ASK, Scope.EVAL)),
    "eval_staff": KeySpec(EVERYTHING, (Scope.ASK, Scope.EVAL)),
    "admin": KeySpec(EVERYTHING, (Scope.ADMIN,)),
}


async def ensure_keys(store: KeyStore, known: Mapping[str, str], *, tenant: str) -> dict[str, str]:
    """The known keys that this database takes, and new ones in place of those that it does not.

    A key is replaced when the database is another one than last time, or when somebody revoked it.
    """
    keys = {}
    for name, spec in SPECS.items():
        secret = known.get(name)
        found = await store.find(digest(secret)) if secret else None
        if secret and found and found.revoked_at is None and found.tenant == tenant:
            keys[name] = secret
            continue
        made = await store.create(name=name, tenant=tenant, principals=spec.principals, scopes=spec.scopes)
        keys[name] = made.secret
    return keys
