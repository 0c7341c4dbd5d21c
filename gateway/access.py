"""Who is asking: API keys, bound to tenant, principals and scopes, none of which is ever read from a body.

A key is `tw_` + 256 random bits + a checksum. Only its SHA-256 is stored: with that much entropy a slow hash
adds latency and no safety, and looking it up by digest leaks nothing through time.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Protocol
from uuid import UUID, uuid4

from gateway.database import Cursor, Database
from gateway.errors import (
    ForbiddenError,
    InvalidFieldError,
    NotFoundError,
    RecordsUnavailableError,
    UnauthenticatedError,
)
from gateway.sql import queries
from retrieval.documents import Access

PREFIX = "tw_"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BODY_LENGTH = 43  # 256 bits in base 62
_CHECK_LENGTH = 6  # 32 bits in base 62


class Scope(StrEnum):
    """What a key may do. `admin` may do everything."""

    ASK = "ask"
    INGEST = "ingest"
    REVIEW = "review"
    EVAL = "eval"
    RELEASE = "release"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as the system knows it: never the secret itself."""

    id: UUID
    name: str
    tenant: str
    principals: tuple[str, ...]
    scopes: frozenset[Scope]
    created_at: datetime
    revoked_at: datetime | None = None

    @property
    def access(self) -> Access:
        """What retrieval may show to this key."""
        return Access(tenant=self.tenant, principals=self.principals)

    def allows(self, *scopes: Scope) -> bool:
        """Whether the key carries one of the scopes (or `admin`)."""
        return Scope.ADMIN in self.scopes or not self.scopes.isdisjoint(scopes)

    def require(self, *scopes: Scope, field: str = "header authorization") -> None:
        """Raises ForbiddenError unless the key carries one of the scopes."""
        if not self.allows(*scopes):
            wanted = " or ".join(scopes)
            raise ForbiddenError(
                f"This needs the scope {wanted}; the key {self.name!r} has "
                f"{', '.join(sorted(self.scopes)) or 'none'}.",
                field=field,
                fix=f"Use a key with the scope {wanted} (`twinrail keys create --scope {scopes[0]}`).",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key at its birth, the only moment at which its secret exists outside the caller's hands."""

    secret: str
    key: ApiKey


def mint_secret() -> str:
    """A new key: prefix, 256 random bits, checksum. The checksum lets scanners and us tell a typo from a
    guess."""
    body = _base62(secrets.randbits(256), _BODY_LENGTH)
    return f"{PREFIX}{body}{_checksum(body)}"


def is_well_formed(secret: str) -> bool:
    """Whether the text can be a key at all; spares the database every other string."""
    body, check = secret[len(PREFIX) : -_CHECK_LENGTH], secret[-_CHECK_LENGTH:]
    return (
        secret.startswith(PREFIX)
        and len(body) == _BODY_LENGTH
        and secret.isascii()
        and body.isalnum()
        and secrets.compare_digest(check, _checksum(body))
    )


def digest(secret: str) -> str:
    """What is stored and looked up."""
    return sha256(secret.encode()).hexdigest()


def secret_from_headers(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The key of `Authorization: Bearer` or `x-api-key`; more than one of them is refused rather than chosen
    from."""
    found: list[str] = []
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            if scheme.lower() != "bearer":
                raise UnauthenticatedError("The scheme of the authorization header is not Bearer.")
            found.append(token.strip())
        elif name == b"x-api-key":
            found.append(value.decode("latin-1").strip())
    if not found:
        raise UnauthenticatedError
    if len(set(found)) > 1:
        raise UnauthenticatedError("The request carries more than one API key.")
    if not is_well_formed(found[0]):
        raise UnauthenticatedError("This is not an API key: prefix, length or checksum is wrong.")
    return found[0]


class KeyStore:
    """API keys in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, key_digest: str) -> ApiKey | None:
        """The key with this digest, revoked ones too."""

        async def select(cursor: Cursor) -> ApiKey | None:
            await cursor.execute(queries["key_by_digest"], {"digest": key_digest})
            row = await cursor.fetchone()
            return _from_row(row) if row else None

        return await self._database.read(None, select)

    async def create(
        self, *, name: str, tenant: str, principals: Iterable[str], scopes: Iterable[str]
    ) -> NewKey:
        """Make a key and return its secret, once."""
        secret = mint_secret()
        async with self._database.transaction(_filled(tenant, "tenant")) as cursor:
            await cursor.execute(
                queries["insert_key"],
                {
                    "id": uuid4(),
                    "name": _filled(name, "name"),
                    "digest": digest(secret),
                    "tenant": tenant,
                    "principals": list(principals),
                    "scopes": [str(_scope(scope)) for scope in scopes],
                },
            )
            row = await cursor.fetchone()
        if row is None:
            raise RecordsUnavailableError
        return NewKey(secret=secret, key=_from_row(row))

    async def list(self, tenant: str) -> list[ApiKey]:
        """The tenant's keys, oldest first."""

        async def select(cursor: Cursor) -> list[ApiKey]:
            await cursor.execute(queries["list_keys"])
            return [_from_row(row) for row in await cursor.fetchall()]

        return await self._database.read(tenant, select)

    async def revoke(self, tenant: str, key_id: UUID) -> ApiKey:
        """Revoke a key; it stops working within the cache's age. Again is no error."""
        async with self._database.transaction(tenant) as cursor:
            await cursor.execute(queries["revoke_key"], {"id": key_id})
            row = await cursor.fetchone()
        if row is None:
            raise NotFoundError(
                f"There is no key {key_id}.", field="id", fix="List them with `twinrail keys list`."
            )
        return _from_row(row)


async def create_key(
    database: Database, *, name: str, tenant: str, principals: Iterable[str], scopes: Iterable[str]
) -> NewKey:
    """Make a key (for command lines)."""
    return await KeyStore(database).create(name=name, tenant=tenant, principals=principals, scopes=scopes)


class KeyFinder(Protocol):
    """What the key ring needs of a store."""

    async def find(self, key_digest: str) -> ApiKey | None: ...


@dataclass(frozen=True, slots=True)
class _Known:
    key: ApiKey | None
    read_at: float
    #: When the store is asked again.
    stale_at: float


class KeyRing:
    """Authenticates, with a small cache in front of the store.

    A revoked key works for at most `max_age_s` more. While the store cannot be asked, a key that was good
    stays good for `grace_s`: an outage of the database must not look like 401 to every caller.
    """

    CAPACITY = 4096

    def __init__(
        self,
        store: KeyFinder,
        *,
        max_age_s: float = 5.0,
        grace_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._max_age_s = max_age_s
        self._grace_s = grace_s
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._reading: dict[str, asyncio.Task[ApiKey | None]] = {}

    async def authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> ApiKey:
        """The key of the request; raises UnauthenticatedError."""
        key = await self._look_up(digest(secret_from_headers(headers)))
        if key is None:
            raise UnauthenticatedError("This API key is not known.")
        if key.revoked_at is not None:
            raise UnauthenticatedError(f"The API key {key.name!r} was revoked.")
        return key

    async def _look_up(self, key_digest: str) -> ApiKey | None:
        known = self._known.get(key_digest)
        now = self._clock()
        if known is not None and now < known.stale_at:
            self._known.move_to_end(key_digest)
            return known.key
        try:
            key = await self._read(key_digest)
        except RecordsUnavailableError:
            if known is not None and known.key is not None and now - known.read_at <= self._grace_s:
                self._known[key_digest] = replace(known, stale_at=self._clock() + self._max_age_s)
                return known.key
            raise
        now = self._clock()
        self._known[key_digest] = _Known(key, read_at=now, stale_at=now + self._max_age_s)
        self._known.move_to_end(key_digest)
        while len(self._known) > self.CAPACITY:
            self._known.popitem(last=False)
        return key

    async def _read(self, key_digest: str) -> ApiKey | None:
        """One read per key at a time, whoever waits; a caller that leaves does not cancel it for the
        others."""
        task = self._reading.get(key_digest)
        if task is None:
            task = asyncio.create_task(self._store.find(key_digest))
            self._reading[key_digest] = task
            task.add_done_callback(lambda _: self._reading.pop(key_digest, None))
        return await asyncio.shield(task)


def _from_row(row: Mapping[str, Any]) -> ApiKey:
    return ApiKey(
        id=row["id"],
        name=row["name"],
        tenant=row["tenant"],
        principals=tuple(row["principals"]),
        scopes=frozenset(Scope(scope) for scope in row["scopes"]),
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
    )


def _scope(name: str) -> Scope:
    try:
        return Scope(name)
    except ValueError as exc:
        raise InvalidFieldError(
            f"There is no scope {name!r}.", field="scopes", fix=f"Use some of: {', '.join(Scope)}."
        ) from exc


def _filled(value: str, field: str) -> str:
    if not value.strip():
        raise InvalidFieldError(f"{field} is empty.", field=field, fix=f"Give a {field}.")
    return value


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, rest = divmod(number, 62)
        digits.append(_ALPHABET[rest])
    return "".join(reversed(digits))


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_LENGTH)
