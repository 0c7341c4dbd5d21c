"""Keys: their form, where they are read from, and the cache in front of the store."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access import ApiKey, KeyRing, Scope, digest, is_well_formed, mint_secret, secret_from_headers
from gateway.errors import ForbiddenError, RecordsUnavailableError, UnauthenticatedError


class Store:
    """Keys in memory."""

    def __init__(self, **keys: ApiKey) -> None:
        self.keys = keys
        self.reads = 0
        self.away = False

    async def find(self, key_digest: str) -> ApiKey | None:
        self.reads += 1
        if self.away:
            raise RecordsUnavailableError
        return self.keys.get(key_digest)


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def key(*, revoked: bool = False, scopes: frozenset[Scope] = frozenset({Scope.ASK})) -> ApiKey:
    return ApiKey(
        id=uuid4(),
        name="test",
        tenant="acme",
        principals=("public",),
        scopes=scopes,
        created_at=datetime.now(UTC),
        revoked_at=datetime.now(UTC) if revoked else None,
    )


def bearer(secret: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", f"Bearer {secret}".encode())]


def test_a_secret_has_256_random_bits_and_a_checksum() -> None:
    made = {mint_secret() for _ in range(50)}
    assert len(made) == 50
    assert all(is_well_formed(secret) and len(secret) == 3 + 43 + 6 for secret in made)


@given(st.text(max_size=60), st.integers(0, 51))
def test_what_is_not_a_key_is_told_from_its_form(text: str, place: int) -> None:
    secret = mint_secret()
    assert not is_well_formed(text)
    changed = secret[:place] + ("A" if secret[place] != "A" else "B") + secret[place + 1 :]
    assert not is_well_formed(changed)


def test_headers() -> None:
    secret = mint_secret()
    assert secret_from_headers(bearer(secret)) == secret
    assert secret_from_headers([(b"x-api-key", secret.encode())]) == secret
    assert secret_from_headers([*bearer(secret), (b"x-api-key", secret.encode())]) == secret
    for bad in (
        [],
        bearer("tw_nope"),
        [(b"authorization", b"Basic abc")],
        [*bearer(secret), (b"x-api-key", mint_secret().encode())],
        bearer(secret + "\xe9"),
    ):
        with pytest.raises(UnauthenticatedError):
            secret_from_headers(bad)


async def test_the_cache_ends_with_its_age() -> None:
    secret, clock = mint_secret(), Clock()
    store = Store(**{digest(secret): key()})
    ring = KeyRing(store, max_age_s=5, clock=clock)
    for _ in range(3):
        await ring.authenticate(bearer(secret))
    assert store.reads == 1
    store.keys[digest(secret)] = key(revoked=True)
    clock.now += 5.1
    with pytest.raises(UnauthenticatedError, match="revoked"):
        await ring.authenticate(bearer(secret))


async def test_known_keys_outlive_an_outage_unknown_ones_do_not_become_401() -> None:
    secret, clock = mint_secret(), Clock()
    store = Store(**{digest(secret): key()})
    ring = KeyRing(store, max_age_s=5, grace_s=60, clock=clock)
    await ring.authenticate(bearer(secret))
    store.away = True
    clock.now += 30
    await ring.authenticate(bearer(secret))
    await ring.authenticate(bearer(secret))
    assert store.reads == 2  # asked again at its age, not at every request
    with pytest.raises(RecordsUnavailableError):
        await ring.authenticate(bearer(mint_secret()))
    clock.now += 60
    with pytest.raises(RecordsUnavailableError):
        await ring.authenticate(bearer(secret))


def test_scopes() -> None:
    with pytest.raises(ForbiddenError, match="release") as refused:
        key().require(Scope.RELEASE)
    assert "release" in (refused.value.fix or "")
    key(scopes=frozenset({Scope.ADMIN})).require(Scope.RELEASE)
