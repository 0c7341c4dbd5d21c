"""The adapter-effect probe: fixed prompts that show whose weights an engine answers with under a name.

An engine may accept an adapter and answer as its base, or as another adapter. What an answer says is a poor
witness of that: greedy texts of two models are often equal. The log-probabilities of the likeliest next
tokens are a good one: some hundred numbers for a few tokens. Those of the prompt's own tokens would be better
still, but the vLLM that we tried (0.32, CPU, adapters) answered 500 to two such requests at once. An engine
that gives no log-probabilities can only show that it answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from serving.errors import EngineRejectedError, EngineUnavailableError
from serving.prompting import Message
from serving.replicas import Reference

#: Short, because each is read in full for each engine and version; of the kind that versions are tuned on.
PROBES: tuple[tuple[Message, ...], ...] = tuple(
    (
        Message("system", "You are a support agent. Answer from the passages only, as JSON."),
        Message("user", f"[1] {title}\n{text}\n\nQuestion: {question}"),
    )
    for title, text, question in (
        (
            "Refunds",
            "A refund is possible within 30 days of a yearly renewal. Monthly renewals are not refunded.",
            "Can I have my money back after the yearly renewal?",
        ),
        (
            "Backups",
            "A backup that stopped at 12 % has met a file that is open in another program. Close it.",
            "How do I take my vacuum cleaner apart?",
        ),
        (
            "Sign-in",
            "A code is sent to the phone number of the account. It is valid for 10 minutes.",
            "I never get the code and I am furious. What now?",
        ),
    )
)

#: The first tokens of an answer, and of each the likeliest.
TOKENS, LIKELIEST = 4, 20
#: Mean difference per token, in nats, below which two readings count as of the same weights: a step of
#: bfloat16 at the size of a logit. docs/experiments.md has what was measured.
FLOOR_NATS = 0.05
#: What two readings of the same weights may differ by, in multiples of the noise seen during the probe.
NOISE_FACTOR = 4.0
#: A reading further from its own reference than this share of the way to the base is of other weights.
OWN_SHARE = 0.5


#: Of each probe, token by token: what was written, and the likeliest tokens with their log-probabilities.
Places = Sequence[Sequence[tuple[str, Mapping[str, float]]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What an engine made of the probes under one name."""

    #: Of each probe the tokens that it wrote, each with the log-probabilities of the likeliest in its place;
    #: empty where the engine gives none.
    places: Places
    #: The first tokens that it went on with, for a person to look at.
    texts: tuple[str, ...]

    @property
    def has_evidence(self) -> bool:
        """Whether there is anything to compare."""
        return any(self.places)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What a probe showed."""

    passed: bool
    reason: str
    evidence: Mapping[str, Any]


async def read_probes(
    session: aiohttp.ClientSession,
    url: str,
    model: str,
    *,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 120.0,
    likeliest: bool = True,
) -> Reading:
    """Have an engine read the probes under a name; raises EngineUnavailableError or EngineRejectedError.

    Without `likeliest` it is asked for an answer alone, as a server that fails at log-probabilities can give
    it.
    """
    places, texts = [], []
    for messages in PROBES:
        place, text = await _read(session, url, model, messages, headers or {}, timeout_s, likeliest)
        places.append(place)
        texts.append(text)
    return Reading(places=tuple(places), texts=tuple(texts))


def distance(one: Places, other: Places) -> float:  # lower: more alike; infinite: nothing to compare
    """Mean absolute difference per likely token, in nats, up to where the two texts part."""
    found: list[float] = []
    for left, right in zip(one, other, strict=False):
        for (written, mine), (wrote, yours) in zip(left, right, strict=False):
            # A token that one of them does not list is at most as likely there as the last that it lists.
            found += [
                abs(mine.get(token, min(mine.values())) - yours.get(token, min(yours.values())))
                for token in {*mine, *yours}
            ]
            if written != wrote:
                break
    return sum(found) / len(found) if found else math.inf


def judge_adapter(
    reading: Reading,
    *,
    base: Reading,
    base_again: Reading,
    adapter_digest: str,
    references: Sequence[Reference] = (),
) -> ProbeResult:
    """Whether an engine that serves both answers as the adapter says and not as its base.

    `base` was read before the adapter and `base_again` after it: their difference is the engine's noise under
    the load that there is.
    """
    if not (reading.has_evidence and base.has_evidence):
        return ProbeResult(
            passed=False,
            reason="the engine gives no log-probabilities, so nothing shows the adapter's effect",
            evidence=_evidence(reading, form="adapter"),
        )
    noise = distance(base.places, base_again.places)
    return _judge(
        reading,
        base.places,
        noise=noise,
        form="adapter",
        adapter_digest=adapter_digest,
        references=references,
    )


def judge_merged(reading: Reading, *, adapter_digest: str, references: Sequence[Reference]) -> ProbeResult:
    """The same for weights of their own, against what the base made of the probes on an engine of the same
    build.

    Where no such engine has been seen, nothing is compared and the result says so: such an engine has no
    other weights to answer with by mistake, only those that it was started on.
    """
    base = next((each for each in references if each.form == "base"), None)
    if base is None:
        return ProbeResult(
            passed=True,
            reason="answers; not compared, since no engine of this build has shown the base",
            evidence=_evidence(reading, form="merged", compared=False),
        )
    if not reading.has_evidence:
        # Nothing that another engine shows later would change this.
        return ProbeResult(
            passed=True,
            reason="answers; not compared, since the engine gives no log-probabilities",
            evidence=_evidence(reading, form="merged"),
        )
    return _judge(
        reading, base.places, noise=0.0, form="merged", adapter_digest=adapter_digest, references=references
    )


def judge_base(reading: Reading) -> ProbeResult:
    """A model without an adapter has nothing to differ from: it has to answer."""
    return ProbeResult(passed=True, reason="answers", evidence=_evidence(reading, form="base"))


def _judge(
    reading: Reading,
    base: Places,
    *,
    noise: float,
    form: str,
    adapter_digest: str,
    references: Sequence[Reference],
) -> ProbeResult:
    tolerance = max(FLOOR_NATS, NOISE_FACTOR * noise)
    effect = distance(base, reading.places)
    kept = [each for each in references if each.form == form]
    own = next((each for each in kept if each.adapter_digest == adapter_digest), None)
    others = {
        each.adapter_digest: distance(each.places, reading.places)
        for each in kept
        if each.adapter_digest != adapter_digest
    }
    from_own = distance(own.places, reading.places) if own else None
    evidence = _evidence(
        reading, form=form, effect=effect, noise=noise, tolerance=tolerance, from_own=from_own
    )
    if effect <= tolerance:
        return ProbeResult(
            passed=False,
            reason="the engine answers as its base: the adapter changes log-probabilities by "
            f"{effect:.4f} nats a token, and up to {tolerance:.4f} is noise",
            evidence=evidence,
        )
    if own is not None and from_own is not None:
        reach = max(tolerance, OWN_SHARE * distance(own.places, base))
        if from_own > reach:
            return ProbeResult(
                passed=False,
                reason=f"the engine answers with other weights: {from_own:.4f} nats a token from what this "
                f"adapter gave before, at most {reach:.4f}" + _alike(others, from_own),
                evidence=evidence,
            )
    elif others and min(others.values()) <= tolerance:
        return ProbeResult(
            passed=False,
            reason="the engine answers with other weights" + _alike(others, math.inf),
            evidence=evidence,
        )
    return ProbeResult(
        passed=True, reason=f"changes log-probabilities by {effect:.3f} nats a token", evidence=evidence
    )


def _alike(others: Mapping[str, float], within: float) -> str:
    nearest = min(others, key=lambda digest: others[digest], default=None)
    if nearest is None or others[nearest] >= within:
        return ""
    return f"; those of adapter {nearest[:8]} are the nearest"


def _evidence(reading: Reading, **numbers: Any) -> dict[str, Any]:
    found = {
        name: round(value, 6) if isinstance(value, float) and math.isfinite(value) else value
        for name, value in numbers.items()
    }
    # JSON has no infinity; other tokens than the base's are the largest difference there is.
    found = {name: None if value == math.inf else value for name, value in found.items()}
    return {**found, "tokens": sum(len(place) for place in reading.places), "texts": list(reading.texts)}


async def _read(
    session: aiohttp.ClientSession,
    url: str,
    model: str,
    messages: Sequence[Message],
    headers: Mapping[str, str],
    timeout_s: float,
    likeliest: bool,
) -> tuple[tuple[tuple[str, Mapping[str, float]], ...], str]:
    body = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "max_tokens": TOKENS,
        "temperature": 0,
    }
    if not likeliest:
        return await _post(session, url, body, headers, timeout_s)
    try:
        asked = {**body, "logprobs": True, "top_logprobs": LIKELIEST}
        return await _post(session, url, asked, headers, timeout_s)
    except EngineRejectedError:
        # Other servers of the same API do not know the fields, or fewer likely tokens.
        return await _post(session, url, body, headers, timeout_s)


async def _post(
    session: aiohttp.ClientSession,
    url: str,
    body: Mapping[str, Any],
    headers: Mapping[str, str],
    timeout_s: float,
) -> tuple[tuple[tuple[str, Mapping[str, float]], ...], str]:
    try:
        async with session.post(
            f"{url}/chat/completions",
            json=body,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as response:
            status, raw = response.status, await response.read()
    except (aiohttp.ClientError, TimeoutError) as exc:
        raise EngineUnavailableError(f"{url}: {exc or type(exc).__name__}") from exc
    if status in (400, 422):
        raise EngineRejectedError(f"{url} refused a probe: {raw[:200]!r}", status=status)
    if status != 200:
        raise EngineUnavailableError(f"{url} answered a probe with {status}")
    try:
        answer = orjson.loads(raw)
        text = str(answer["choices"][0]["message"].get("content") or "")
        rows = (answer["choices"][0].get("logprobs") or {}).get("content") or ()
        places = tuple(
            (str(row["token"]), {str(each["token"]): float(each["logprob"]) for each in row["top_logprobs"]})
            for row in rows
            if row.get("top_logprobs")
        )
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError, ValueError) as exc:
        raise EngineUnavailableError(f"{url}: the answer to a probe is none of the chat API") from exc
    return places, text
