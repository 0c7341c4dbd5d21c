"""Prices of tokens: what is cached counts apart, and a machine's hour gives prices by its measured rates."""

from __future__ import annotations

import pytest

from serving.pricing import TokenCounts, TokenPrices


def test_cached_tokens_have_their_own_price() -> None:
    prices = TokenPrices(prompt=1.0, cached=0.1, completion=4.0)
    cost = prices.cost(TokenCounts(prompt=1000, cached=700, completion=50))
    assert cost.prompt == pytest.approx((300 * 1.0 + 700 * 0.1) / 1e6)
    assert cost.completion == pytest.approx(50 * 4.0 / 1e6)
    assert cost.total == pytest.approx(cost.prompt + cost.completion)


def test_a_machine_costs_more_a_token_the_less_it_is_used() -> None:
    # 3.60 an hour is a thousandth a second; at 1000 tokens a second that is one a million.
    busy = TokenPrices.of_machine(
        an_hour=3.6, prompt_tokens_a_s=1000, completion_tokens_a_s=100, utilisation=1.0
    )
    idle = TokenPrices.of_machine(
        an_hour=3.6, prompt_tokens_a_s=1000, completion_tokens_a_s=100, utilisation=0.1
    )
    assert (busy.prompt, busy.cached, busy.completion) == pytest.approx((1.0, 0.0, 10.0))
    assert (idle.prompt, idle.completion) == pytest.approx((10.0, 100.0))


@pytest.mark.parametrize(("prompt", "cached", "completion"), [(10, 11, 1), (10, -1, 1), (10, 1, -1)])
def test_impossible_tokens_are_refused(prompt: float, cached: float, completion: float) -> None:
    with pytest.raises(ValueError, match="0 <= cached <= prompt"):
        TokenCounts(prompt=prompt, cached=cached, completion=completion)


def test_a_negative_price_names_itself() -> None:
    with pytest.raises(ValueError, match="cached: a price cannot be negative"):
        TokenPrices(prompt=1, cached=-0.1, completion=1)


@pytest.mark.parametrize(
    ("rate", "utilisation", "says"),
    [(0.0, 0.5, "prompt_tokens_a_s"), (10.0, 0.0, "utilisation"), (10.0, 1.5, "utilisation")],
)
def test_a_machine_needs_rates_and_a_utilisation(rate: float, utilisation: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TokenPrices.of_machine(
            an_hour=1, prompt_tokens_a_s=rate, completion_tokens_a_s=10, utilisation=utilisation
        )
