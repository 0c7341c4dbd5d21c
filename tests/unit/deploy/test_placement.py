"""Which engine processes a machine runs."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from deploy.placement import EngineWeights, Placement, place
from serving.prompting import PromptTemplate
from serving.replicas import Wanted
from serving.versions import ModelVersion, RegisteredVersion

PROMPT = PromptTemplate(name="short", system="Answer.", shots=())
BASE = ModelVersion(
    name="base", base_digest="b" * 64, adapter_digest=None, prompt=PROMPT, task="t", schema={}
)
TUNED = replace(BASE, name="support", adapter_digest="a" * 64)
REWORDED = replace(TUNED, name="reworded", prompt=replace(PROMPT, system="Answer briefly."))
ELSEWHERE = replace(BASE, name="elsewhere", base_digest="e" * 64)


def registered(
    version: ModelVersion, *, served_name: str | None = None, releasable: bool = True
) -> RegisteredVersion:
    return RegisteredVersion(
        version=version,
        served_name=served_name or version.id,
        manifest={},
        releasable=releasable,
        author="test",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


ALL = [registered(version) for version in (BASE, TUNED, REWORDED, ELSEWHERE)]


def merged(version: ModelVersion) -> EngineWeights | None:
    if version.base_digest != BASE.base_digest:
        return None
    return EngineWeights(Path("base") if version.adapter_digest is None else Path("merged"))


def adapted(version: ModelVersion) -> EngineWeights | None:
    if version.base_digest != BASE.base_digest:
        return None
    return EngineWeights(Path("base"), Path("adapter") if version.adapter_digest else None)


def wanted(**roles: ModelVersion) -> list[Wanted]:
    """Versions by role, the most important first."""
    named: dict[str, list[str]] = {}
    for role, version in roles.items():
        named.setdefault(version.id, []).append(role)
    return [Wanted(version=version, roles=tuple(each)) for version, each in named.items()]


def test_stable_comes_first_and_the_others_share_what_they_can() -> None:
    arms = wanted(stable=TUNED, canary=REWORDED, fallback=BASE, previous=BASE, undo=BASE)
    assert place(arms, ALL, merged) == [
        Placement(
            weights=Path("merged"),
            arms=("stable", "canary"),
            needed=(TUNED.id, REWORDED.id),
            served=(TUNED.id, REWORDED.id),
        ),
        Placement(weights=Path("base"), arms=("fallback", "previous"), needed=(BASE.id,), served=(BASE.id,)),
    ]


def test_adapters_share_the_engine_of_their_base_with_all_arms() -> None:
    (placed,) = place(wanted(stable=TUNED, canary=REWORDED, fallback=BASE), ALL, adapted)
    assert placed.weights == Path("base")
    assert placed.arms == ("stable", "canary", "fallback")
    assert (placed.served, placed.needed) == ((BASE.id,), (BASE.id,))
    assert placed.adapters == (TUNED.id, REWORDED.id)
    assert placed.answers_as == (BASE.id, TUNED.id, REWORDED.id)


def test_the_engine_of_adapters_answers_as_the_base_that_nobody_wants() -> None:
    (placed,) = place(wanted(stable=TUNED), ALL, adapted)
    assert (placed.served, placed.needed, placed.adapters) == ((BASE.id,), (), (TUNED.id,))


def test_after_an_undo_the_engine_of_the_base_comes_first() -> None:
    placements = place(wanted(stable=BASE, fallback=BASE, previous=TUNED), ALL, merged)
    assert [placed.arms for placed in placements] == [("stable", "fallback"), ("previous",)]


def test_a_stable_version_without_weights_here_leaves_the_shipped_one_to_promote() -> None:
    placements = place(wanted(stable=ELSEWHERE), ALL, merged, shipped=TUNED.id)
    assert [(placed.weights, placed.arms) for placed in placements] == [(Path("merged"), ("shipped",))]
    assert [placed.needed for placed in placements] == [(TUNED.id,)]


def test_a_candidate_is_served_where_it_is_staged_and_nowhere_else() -> None:
    versions = [registered(BASE), registered(TUNED), registered(REWORDED, releasable=False)]
    versions.append(registered(replace(TUNED, name="outside"), served_name="somebody/else"))
    (placed,) = place(wanted(stable=TUNED), versions, merged)
    assert placed.served == (TUNED.id,)
    (placed,) = place(wanted(stable=TUNED, staged=REWORDED), versions, merged)
    assert placed.served == (TUNED.id, REWORDED.id)


def test_a_retired_version_is_served_no_more() -> None:
    retired = replace(registered(REWORDED), retired_at=datetime(2026, 2, 1, tzinfo=UTC))
    (placed,) = place(wanted(stable=TUNED), [registered(TUNED), retired], merged)
    assert placed.served == (TUNED.id,)


def test_a_process_does_what_its_weights_names_and_adapters_allow() -> None:
    tuned = Placement(weights=Path("base"), served=(BASE.id,), adapters=(TUNED.id,), arms=("stable",))
    plain = Placement(weights=Path("base"), served=(BASE.id,), arms=("fallback",), needed=(BASE.id,))
    assert tuned.does(plain)
    assert not plain.does(tuned)
    assert tuned.does(replace(tuned, adapters=(REWORDED.id,)))  # that one is loaded at run time
    assert not plain.does(replace(plain, served=(BASE.id, "m-new"), needed=("m-new",)))
    assert not plain.does(replace(plain, weights=Path("other")))
