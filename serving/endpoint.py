"""A model in somebody else's house: any OpenAI-compatible endpoint, the last one that is asked.

What it writes passes the same checks as any other draft. What leaves the house is the prompt (the version's
wording, the passages, the question and the last messages), with no tenant, key, conversation or trace id.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import aiohttp

from serving.client import ChatClient
from serving.errors import EngineUnavailableError
from serving.instruments import OPENAI
from serving.settings import ServingSettings
from serving.versions import RegisteredVersion, sha256_of

_HOUR_S: Final = 3600.0
#: Its versions stand in no registry, so in no order of time either.
_NO_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)


class EndpointRoster:
    """The one address, in the place of a pool of engines. Such endpoints need not list their models."""

    def __init__(self, url: str, *, api_key: str | None = None) -> None:
        self._url = url.rstrip("/")
        self.headers: Mapping[str, str] = {"authorization": f"Bearer {api_key}"} if api_key else {}

    async def choose(self, served_name: str, *, avoid: frozenset[str] = frozenset()) -> str:
        """The address; raises EngineUnavailableError once it could not be reached."""
        if self._url in avoid:
            raise EngineUnavailableError(f"the endpoint of {served_name!r} cannot be reached")
        return self._url

    @contextmanager
    def lease(self, url: str) -> Iterator[None]:
        """Nothing to count: it balances its own load."""
        yield

    def mark_down(self, url: str, reason: str) -> None:
        """Nothing to remember: its circuit does."""

    def forget(self, url: str) -> None:
        """Nothing is remembered."""


@dataclass(slots=True)
class SetAside:
    """Tokens of the budget that nobody else may use while a draft is made."""

    tokens: int
    #: What the endpoint says that it counted. Of a draft that was broken off nobody knows: all of them count.
    used: int | None = None


class Endpoint:
    """The endpoint with what it may cost: time for a draft, and tokens in an hour of this process."""

    def __init__(
        self,
        *,
        url: str,
        model: str,
        chat: ChatClient,
        timeout_s: float = 10.0,
        tokens_an_hour: int = 200_000,
        constrained: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.chat = chat
        self.timeout_s = timeout_s
        self._url = url.rstrip("/")
        self._model = model
        self._tokens_an_hour = tokens_an_hour
        self._constrained = constrained
        self._clock = clock
        self._spent: deque[tuple[float, int]] = deque()
        self._set_aside = 0
        self._versions: dict[str, RegisteredVersion] = {}

    def version_like(self, asked: RegisteredVersion) -> RegisteredVersion:
        """The model with the prompt, schema and decoding of another version, known by the digest of all four.

        Nobody knows the digest of its weights: address and name stand in for it. It is in no registry.
        """
        known = self._versions.get(asked.id)
        if known is None:
            version = replace(
                asked.version,
                name="endpoint",
                base_digest=sha256_of({"endpoint": self._url, "model": self._model}),
                adapter_digest=None,
                decoding=replace(asked.version.decoding, constrained=self._constrained),
            )
            known = self._versions[asked.id] = RegisteredVersion(
                version=version,
                served_name=self._model,
                manifest={"endpoint": self._url, "model": self._model, "prompt_of": asked.id},
                releasable=True,
                author="settings",
                created_at=_NO_TIME,
            )
        return known

    @contextmanager
    def set_aside(self, tokens: int) -> Iterator[SetAside | None]:
        """Keep the most that a draft can take, in and out, and give back what it did not use; None where the
        hour's budget does not hold it.

        Questions that come at once see what the others keep, so together they stay within the budget too.
        """
        since = self._clock() - _HOUR_S
        while self._spent and self._spent[0][0] <= since:
            self._spent.popleft()
        if sum(spent for _, spent in self._spent) + self._set_aside + tokens > self._tokens_an_hour:
            yield None
            return
        self._set_aside += tokens
        kept = SetAside(tokens)
        try:
            yield kept
        finally:
            self._set_aside -= tokens
            self._spent.append((self._clock(), tokens if kept.used is None else kept.used))


def open_endpoint(settings: ServingSettings, session: aiohttp.ClientSession) -> Endpoint | None:
    """The endpoint that the settings name; None where they name none."""
    if not settings.endpoint_url:
        return None
    key = settings.endpoint_api_key
    roster = EndpointRoster(settings.endpoint_url, api_key=key.get_secret_value() if key else None)
    return Endpoint(
        url=settings.endpoint_url,
        model=settings.endpoint_model,
        chat=ChatClient(
            session=session,
            engines=roster,
            connect_timeout_s=settings.connect_timeout_s,
            provider=OPENAI,
            traced=False,
        ),
        timeout_s=settings.endpoint_timeout_s,
        tokens_an_hour=settings.endpoint_tokens_an_hour,
        constrained=settings.endpoint_constrained,
    )
