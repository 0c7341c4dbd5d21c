"""What generating an answer costs, from its tokens and their prices.

Tokens that the engine found in its prefix cache are priced apart, because a long fixed prompt is nearly free
once it is cached: whoever counts it in full finds savings in a shorter prompt that nobody gets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

_MILLION = 1e6
_SECONDS_AN_HOUR = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCounts:
    """Tokens of one answer, or means over many. `cached` is the part of `prompt` that was not computed."""

    prompt: float
    cached: float
    completion: float

    def __post_init__(self) -> None:
        if not 0 <= self.cached <= self.prompt or self.completion < 0:
            raise ValueError(
                f"tokens must satisfy 0 <= cached <= prompt and completion >= 0, not cached {self.cached:g}, "
                f"prompt {self.prompt:g}, completion {self.completion:g}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationCost:
    """The cost of one answer's tokens, in the currency of the prices."""

    prompt: float
    completion: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.prompt + self.completion


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrices:
    """Prices per million tokens, in one currency."""

    prompt: float
    cached: float
    completion: float

    def __post_init__(self) -> None:
        for name in ("prompt", "cached", "completion"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: a price cannot be negative, and it is {getattr(self, name):g}")

    @classmethod
    def of_machine(
        cls,
        *,
        an_hour: float,
        prompt_tokens_a_s: float,
        completion_tokens_a_s: float,
        utilisation: float,
    ) -> Self:
        """Prices of a machine that is paid by the hour and does something useful for a share of it.

        Measure the rates at the load that the machine really has: list figures are off by 2 to 25 times.
        What is cached takes no time worth pricing.
        """
        rates = {"prompt_tokens_a_s": prompt_tokens_a_s, "completion_tokens_a_s": completion_tokens_a_s}
        for name, rate in rates.items():
            if rate <= 0:
                raise ValueError(f"{name}: must be above 0, and it is {rate:g}")
        if not 0 < utilisation <= 1:
            raise ValueError(f"utilisation: must be above 0 and at most 1, and it is {utilisation:g}")
        a_second = an_hour / _SECONDS_AN_HOUR / utilisation
        return cls(
            prompt=a_second / prompt_tokens_a_s * _MILLION,
            cached=0.0,
            completion=a_second / completion_tokens_a_s * _MILLION,
        )

    def cost(self, tokens: TokenCounts) -> GenerationCost:
        """What these tokens cost."""
        return GenerationCost(
            prompt=((tokens.prompt - tokens.cached) * self.prompt + tokens.cached * self.cached) / _MILLION,
            completion=tokens.completion * self.completion / _MILLION,
        )
