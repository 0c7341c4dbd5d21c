"""What a reconciler plans for one engine, and when a version may be routed to."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from serving.planning import Action, Step, lacks_of, plan, takes
from serving.prompting import PromptTemplate
from serving.replicas import Fleet, Holding, HoldingState, Replica
from serving.versions import ModelVersion, RegisteredVersion

PROMPT = PromptTemplate(name="short", system="Answer.", shots=())
BASE_DIGEST = "b" * 64


def registered(name: str, adapter: str | None) -> RegisteredVersion:
    version = ModelVersion(
        name=name, base_digest=BASE_DIGEST, adapter_digest=adapter, prompt=PROMPT, task="t", schema={}
    )
    return RegisteredVersion(
        version=version,
        served_name=version.id,
        manifest={},
        releasable=True,
        author="test",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


BASE, ONE, TWO = registered("base", None), registered("one", "1" * 64), registered("two", "2" * 64)
ALL = [BASE, ONE, TWO]
BY_NAME = {version.id: version for version in ALL}


def engine(*names: str, url: str = "http://a/v1", life: str | None = "1") -> Replica:
    """An engine on the base that lists these."""
    adapters = tuple(name for name in names if name != BASE.id)
    return Replica(url=url, life=life, listed=names, adapters=adapters, bases=(BASE_DIGEST,))


def merged_engine(version: RegisteredVersion, *, url: str = "http://m/v1") -> Replica:
    return Replica(url=url, life="1", listed=(version.id,))


def held(
    version: RegisteredVersion, state: HoldingState, *, url: str = "http://a/v1", life: str = "1"
) -> Holding:
    return Holding(url=url, version=version.id, state=state, life=life)


def test_a_missing_adapter_is_loaded_and_a_listed_one_probed() -> None:
    assert plan(engine(BASE.id, ONE.id), {}, ALL) == [
        Action(step=Step.PROBE, version=BASE.id),
        Action(step=Step.PROBE, version=ONE.id),
        Action(step=Step.LOAD, version=TWO.id),
    ]


def test_what_is_shown_in_this_life_is_left_alone_and_probed_again_in_the_next() -> None:
    holdings = {BASE.id: held(BASE, HoldingState.PROBED), ONE.id: held(ONE, HoldingState.PROBED, life="0")}
    assert plan(engine(BASE.id, ONE.id), holdings, [BASE, ONE]) == [Action(step=Step.PROBE, version=ONE.id)]


def test_an_adapter_that_the_engine_forgot_is_loaded_again() -> None:
    holdings = {ONE.id: held(ONE, HoldingState.PROBED)}
    assert plan(engine(BASE.id), holdings, [ONE]) == [Action(step=Step.LOAD, version=ONE.id)]


def test_merged_weights_are_loaded_nowhere_as_an_adapter() -> None:
    assert plan(engine(BASE.id), {}, [ONE], merged={ONE.id}) == []
    holdings = {ONE.id: held(ONE, HoldingState.FAILED)}
    assert plan(engine(BASE.id), holdings, [ONE], merged={ONE.id}) == [
        Action(step=Step.RELEASE, version=ONE.id)
    ]


def test_an_engine_that_takes_no_adapters_or_runs_another_base_is_given_none() -> None:
    fixed = replace(engine(BASE.id), takes_adapters=False)
    other = replace(engine(BASE.id), bases=("c" * 64,))
    assert [plan(one, {}, [ONE]) for one in (fixed, other)] == [[], []]


def test_only_what_nobody_wants_for_long_enough_is_taken_out() -> None:
    replica = engine(BASE.id, ONE.id, TWO.id, "m-somebodys-else")
    shown = {BASE.id: held(BASE, HoldingState.PROBED)}
    assert plan(replica, shown, [BASE]) == []
    assert plan(replica, shown, [BASE], evictable={ONE.id, BASE.id}) == [
        Action(step=Step.EVICT, version=ONE.id)
    ]


def test_what_could_not_be_compared_is_probed_again_when_it_can() -> None:
    shown = {ONE.id: held(ONE, HoldingState.PROBED)}
    replica = merged_engine(ONE)
    assert plan(replica, shown, [ONE], comparable={ONE.id}) == [Action(step=Step.PROBE, version=ONE.id)]


def fleet(*replicas: Replica, holdings: tuple[Holding, ...] = ()) -> Fleet:
    return Fleet(replicas=replicas, holdings=holdings)


def test_a_version_is_routable_when_every_live_engine_has_shown_it() -> None:
    a, b = engine(BASE.id, ONE.id), engine(BASE.id, ONE.id, url="http://b/v1")
    both = (held(ONE, HoldingState.PROBED), held(ONE, HoldingState.PROBED, url=b.url))
    assert lacks_of(ONE, fleet(a, b, holdings=both)) == []
    (lack,) = lacks_of(ONE, fleet(a, b, holdings=both[:1]))
    assert (lack.url, lack.state) == (b.url, "listed")
    (lack,) = lacks_of(ONE, fleet(a, replace(b, listed=(BASE.id,)), holdings=both))
    assert (lack.url, lack.state) == (b.url, "wanted")


def test_an_engine_that_is_down_or_leaving_keeps_nothing_waiting() -> None:
    a, b = engine(BASE.id, ONE.id), engine(BASE.id, url="http://b/v1")
    shown = (held(ONE, HoldingState.PROBED),)
    assert lacks_of(ONE, fleet(a, b, holdings=shown)) != []
    assert lacks_of(ONE, fleet(a, replace(b, life=None), holdings=shown)) == []
    assert lacks_of(ONE, fleet(a, replace(b, leaving=True), holdings=shown)) == []
    (lack,) = lacks_of(ONE, fleet(replace(a, life=None, reason="refused"), holdings=shown))
    assert "refused" in lack.reason


def test_a_failed_probe_says_why() -> None:
    failed = replace(held(ONE, HoldingState.FAILED), reason="answers as its base")
    (lack,) = lacks_of(ONE, fleet(engine(BASE.id, ONE.id), holdings=(failed,)))
    assert str(lack) == "http://a/v1: failed (answers as its base)"


def test_merged_weights_need_only_their_own_engine() -> None:
    shown = (held(ONE, HoldingState.PROBED, url="http://m/v1"),)
    assert lacks_of(ONE, fleet(engine(BASE.id), merged_engine(ONE), holdings=shown)) == []


names = st.sets(st.sampled_from([BASE.id, ONE.id, TWO.id, "m-strange"]))
states = st.dictionaries(
    st.sampled_from([BASE.id, ONE.id, TWO.id]),
    st.tuples(st.sampled_from(list(HoldingState)), st.sampled_from(["0", "1"])),
)


@given(listed=names, states=states, wanted=st.permutations(ALL), count=st.integers(0, 3), evictable=names)
def test_every_plan_keeps_the_promises(
    listed: set[str],
    states: dict[str, tuple[HoldingState, str]],
    wanted: list[RegisteredVersion],
    count: int,
    evictable: set[str],
) -> None:
    """Nothing wanted is taken out, nothing listed is loaded, and carrying a plan out leaves nothing to do."""
    replica = engine(*sorted(listed | {BASE.id}))
    wanted = wanted[:count]
    holdings = {
        name: Holding(url=replica.url, version=name, state=state, life=life)
        for name, (state, life) in states.items()
    }
    actions = plan(replica, holdings, wanted, evictable=evictable)
    ids = {version.id for version in wanted}
    by_step = {step: {a.version for a in actions if a.step is step} for step in Step}
    assert not by_step[Step.EVICT] & ids
    assert not by_step[Step.EVICT] - set(replica.adapters)
    assert by_step[Step.EVICT] <= evictable
    assert not by_step[Step.LOAD] & set(replica.listed)
    assert (by_step[Step.LOAD] | by_step[Step.PROBE]) <= ids
    assert all(takes(BY_NAME[name], replica, merged=False) for name in by_step[Step.LOAD])

    now = (set(replica.listed) - by_step[Step.EVICT]) | by_step[Step.LOAD]
    after = engine(*sorted(now))
    done = {n: h for n, h in holdings.items() if n not in by_step[Step.RELEASE]}
    for name in by_step[Step.LOAD] | by_step[Step.PROBE]:
        done[name] = Holding(url=replica.url, version=name, state=HoldingState.PROBED, life="1")
    assert plan(after, done, wanted, evictable=evictable) == []
    state = Fleet(replicas=(after,), holdings=tuple(done.values()))
    assert all(lacks_of(version, state) == [] for version in wanted)
