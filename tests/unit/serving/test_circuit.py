"""A circuit opens on what the last outcomes show, lets one request try, and closes or opens again."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serving.circuit import Circuit, CircuitLimits, Circuits, CircuitState, Outcome, Permit

GOOD, ERROR, INVALID = Outcome.GOOD, Outcome.ERROR, Outcome.INVALID


class Bench:
    """A circuit with a clock that is moved by hand, and what it told."""

    def __init__(self, **limits: float) -> None:
        self.now = 0.0
        self.told: list[tuple[CircuitState, Outcome]] = []
        self.circuit = Circuit(
            CircuitLimits(**limits),  # type: ignore[arg-type]
            clock=lambda: self.now,
            on_change=lambda state, cause: self.told.append((state, cause)),
        )

    def ask(self, *outcomes: Outcome) -> None:
        for outcome in outcomes:
            permit = self.circuit.admit()
            assert permit is not None
            with permit:
                permit.say(outcome)


def test_errors_in_a_row_open_it_and_a_good_one_between_does_not() -> None:
    bench = Bench()
    bench.ask(*[ERROR] * 4, GOOD, *[ERROR] * 4)
    assert bench.circuit.state is CircuitState.CLOSED
    bench.ask(ERROR)
    assert bench.told == [(CircuitState.OPEN, ERROR)]
    assert bench.circuit.admit() is None


@pytest.mark.parametrize(
    ("outcomes", "opens"),
    [
        ([ERROR, ERROR, GOOD] * 4, ERROR),  # more than half of at least ten
        ([ERROR, GOOD, GOOD] * 10, None),
        ([INVALID, INVALID, GOOD] * 10, None),  # a weak model is no broken one
        ([*[INVALID] * 19, GOOD], INVALID),  # hardly anything of the last twenty was of use
        ([INVALID] * 19, None),
    ],
)
def test_a_share_of_the_last_ones_opens_it(outcomes: list[Outcome], opens: Outcome | None) -> None:
    bench = Bench()
    for outcome in outcomes:
        if bench.circuit.admits:
            bench.ask(outcome)
    assert [cause for _, cause in bench.told] == ([opens] if opens else [])


def test_what_is_long_ago_counts_in_no_share() -> None:
    bench = Bench()
    bench.ask(*[INVALID] * 19)
    bench.now = 121.0
    bench.ask(INVALID)
    assert bench.circuit.state is CircuitState.CLOSED


def test_one_request_tries_and_the_pause_doubles_until_it_works() -> None:
    bench = Bench(open_s=10, longest_open_s=30)
    bench.ask(*[ERROR] * 5)
    for pause in (10, 20, 30, 30):
        bench.now += pause - 0.1
        assert bench.circuit.admit() is None
        bench.now += 0.1
        trial = bench.circuit.admit()
        assert trial is not None
        assert bench.circuit.state is CircuitState.HALF_OPEN
        assert bench.circuit.admit() is None, "one at a time"
        trial.say(ERROR)
    bench.now += 30
    bench.ask(GOOD)
    assert bench.circuit.state is CircuitState.CLOSED
    bench.ask(*[ERROR] * 5)
    bench.now += 10
    assert bench.circuit.admits, "the pause begins anew"


def test_a_trial_that_is_given_back_is_the_next_one_s_at_once() -> None:
    bench = Bench()
    bench.ask(*[ERROR] * 5)
    bench.now += 15
    trial = bench.circuit.admit()
    assert trial is not None
    for _ in range(3):
        with trial:
            pass
        trial = bench.circuit.admit()
        assert trial is not None
        assert bench.circuit.admit() is None, "one at a time"
    trial.say(GOOD)
    assert [state for state, _ in bench.told] == [
        CircuitState.OPEN,
        CircuitState.HALF_OPEN,
        CircuitState.CLOSED,
    ], "it opened once, however many left"


@pytest.mark.parametrize(
    ("opened_by", "trial", "after"),
    [
        ([ERROR] * 5, INVALID, CircuitState.CLOSED),  # it answers again; one odd draft is no evidence
        ([INVALID] * 20, INVALID, CircuitState.OPEN),
        ([INVALID] * 20, ERROR, CircuitState.OPEN),
    ],
)
def test_what_it_was_opened_by_has_to_be_gone(
    opened_by: list[Outcome], trial: Outcome, after: CircuitState
) -> None:
    bench = Bench()
    bench.ask(*opened_by)
    assert bench.circuit.state is CircuitState.OPEN
    bench.now += 15
    bench.ask(trial)
    assert bench.circuit.state is after


def test_what_was_asked_before_it_opened_says_nothing_about_what_is_now() -> None:
    bench = Bench()
    late = [bench.circuit.admit() for _ in range(3)]
    bench.ask(*[ERROR] * 5)
    bench.now += 15
    trial = bench.circuit.admit()
    for permit in late:
        assert permit is not None
        permit.say(GOOD)
    assert bench.circuit.state is CircuitState.HALF_OPEN
    assert trial is not None
    trial.say(GOOD)
    for permit in late:
        assert permit is not None
        permit.say(ERROR)
    assert bench.circuit.state is CircuitState.CLOSED


def test_without_a_pause_it_never_opens() -> None:
    bench = Bench(open_s=0)
    bench.ask(*[ERROR] * 50)
    assert bench.told == []


def test_versions_have_circuits_of_their_own() -> None:
    told: list[tuple[str, CircuitState, Outcome | None]] = []
    circuits = Circuits(
        CircuitLimits(errors_in_a_row=1), on_change=lambda *change: told.append(change), clock=lambda: 0.0
    )
    permit = circuits.admit("m-a")
    assert permit is not None
    permit.say(ERROR)
    assert (circuits.admits("m-a"), circuits.admits("m-b")) == (False, True)
    assert told == [("m-a", CircuitState.CLOSED, None), ("m-a", CircuitState.OPEN, ERROR)]


def test_the_circuit_of_a_version_that_gets_no_traffic_any_more_is_forgotten() -> None:
    now = [0.0]
    shown: dict[str, CircuitState] = {}
    circuits = Circuits(
        CircuitLimits(errors_in_a_row=1, idle_s=600),
        clock=lambda: now[0],
        on_change=lambda version, state, _cause: shown.update({version: state}),
    )
    for version in ("m-taken-back", "m-live"):
        permit = circuits.admit(version)
        assert permit is not None
        permit.say(ERROR)
    for _ in range(61):
        now[0] += 10
        circuits.admit("m-live")  # each one a trial that is still running, or none
    assert shown == {"m-taken-back": CircuitState.CLOSED, "m-live": CircuitState.HALF_OPEN}
    assert circuits.admits("m-taken-back")


class CircuitMachine(RuleBasedStateMachine):
    """Any order of asking, answering, leaving and waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(open_s=5, longest_open_s=20)
        self.running: list[Permit] = []
        self.trials = 0

    @rule()
    def ask(self) -> None:
        was = self.bench.circuit.state
        admits = self.bench.circuit.admits
        permit = self.bench.circuit.admit()
        assert (permit is not None) == admits
        if permit is not None:
            self.running.append(permit)
            self.trials += was is CircuitState.OPEN

    @precondition(lambda self: self.running)
    @rule(outcome=st.sampled_from([*Outcome, None]), which=st.integers(0, 99))
    def end(self, outcome: Outcome | None, which: int) -> None:
        with self.running.pop(which % len(self.running)) as permit:
            if outcome is not None:
                permit.say(outcome)

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        self.bench.now += seconds

    @invariant()
    def each_trial_was_one_request_and_states_follow_each_other(self) -> None:
        states = [CircuitState.CLOSED, *(state for state, _ in self.bench.told)]
        follow = {
            CircuitState.CLOSED: {CircuitState.OPEN},
            CircuitState.OPEN: {CircuitState.HALF_OPEN},
            CircuitState.HALF_OPEN: {CircuitState.OPEN, CircuitState.CLOSED},
        }
        assert all(after in follow[before] for before, after in pairwise(states))
        assert states.count(CircuitState.HALF_OPEN) == self.trials

    def teardown(self) -> None:
        """It is never stuck: when all have ended and nothing fails, it closes."""
        for permit in self.running:
            with permit:
                pass
        self.bench.now += 20
        self.bench.ask(GOOD)
        assert self.bench.circuit.state is CircuitState.CLOSED


TestCircuitMachine = CircuitMachine.TestCase


@given(st.lists(st.sampled_from([GOOD, INVALID]), max_size=100))
def test_bad_drafts_alone_open_nothing_while_one_in_ten_is_good(outcomes: list[Outcome]) -> None:
    bench = Bench()
    for n, outcome in enumerate(outcomes):
        bench.ask(GOOD if n % 6 == 0 else outcome)
    assert bench.told == []
