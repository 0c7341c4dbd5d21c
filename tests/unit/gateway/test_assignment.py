"""Assignment: sticky, monotone under a ramp, close to its weight, and independent per rail."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.rollouts.assignment import BUCKETS, Arm, Rail, bucket, choose_arm


@dataclass(frozen=True)
class Split:
    stable: str = "v-stable"
    canary: str | None = "v-canary"
    canary_weight_bp: int = 500
    salt: str = "salt"


UNITS = st.text(min_size=1, max_size=40)
WEIGHTS = st.integers(0, BUCKETS)
RAILS = st.sampled_from(Rail)


@given(UNITS, WEIGHTS, RAILS, st.text(max_size=10))
def test_the_same_unit_always_gets_the_same_arm(unit: str, weight: int, rail: Rail, salt: str) -> None:
    pointer = Split(canary_weight_bp=weight, salt=salt)
    assert choose_arm(pointer, rail=rail, unit=unit) == choose_arm(replace(pointer), rail=rail, unit=unit)


@given(UNITS, WEIGHTS, WEIGHTS, RAILS)
def test_a_ramp_moves_a_unit_once_and_only_towards_the_canary(
    unit: str, one: int, other: int, rail: Rail
) -> None:
    low, high = sorted((one, other))
    before = choose_arm(Split(canary_weight_bp=low), rail=rail, unit=unit)
    after = choose_arm(Split(canary_weight_bp=high), rail=rail, unit=unit)
    if before.arm is Arm.CANARY:
        assert after.arm is Arm.CANARY
    moved = before.arm is not after.arm
    assert moved == (low <= bucket("salt", rail, unit) < high)


@given(UNITS, RAILS)
def test_the_ends_of_the_scale(unit: str, rail: Rail) -> None:
    assert choose_arm(Split(canary_weight_bp=0), rail=rail, unit=unit).arm is Arm.STABLE
    assert choose_arm(Split(canary_weight_bp=BUCKETS), rail=rail, unit=unit).arm is Arm.CANARY
    without = choose_arm(Split(canary=None, canary_weight_bp=BUCKETS), rail=rail, unit=unit)
    assert (without.arm, without.version) == (Arm.STABLE, "v-stable")


def test_the_split_is_within_binomial_bounds() -> None:
    units = [f"unit-{n}" for n in range(20_000)]
    for weight in (100, 500, 2_500, 5_000):
        share = sum(
            choose_arm(Split(canary_weight_bp=weight), rail=Rail.MODEL, unit=unit).arm is Arm.CANARY
            for unit in units
        )
        p = weight / BUCKETS
        assert abs(share - len(units) * p) < 5 * (len(units) * p * (1 - p)) ** 0.5


def test_the_rails_split_independently() -> None:
    units = [f"unit-{n}" for n in range(20_000)]
    pointer = Split(canary_weight_bp=5_000)
    both = sum(
        all(choose_arm(pointer, rail=rail, unit=unit).arm is Arm.CANARY for rail in Rail) for unit in units
    )
    assert abs(both - len(units) / 4) < 5 * (len(units) * 0.25 * 0.75) ** 0.5
