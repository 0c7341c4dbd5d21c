"""Which engine processes a machine runs."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from deploy.placement import EngineWeights, Placement, place
from serving.prompting import PromptTemplate
from serving.versions import ModelVersion, Pointer, RegisteredVersion

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


def test_stable_comes_first_and_the_others_share_what_they_can() -> None:
    pointer = Pointer(stable=TUNED.id, previous=BASE.id, fallback=BASE.id, canary=REWORDED.id)
    assert place(pointer, ALL, merged, shipped=TUNED.id) == [
        Placement(
            weights=Path("merged"),
            arms=("stable", "canary"),
            needed=TUNED.id,
            served=(TUNED.id, REWORDED.id),
        ),
        Placement(weights=Path("base"), arms=("fallback", "previous"), needed=BASE.id, served=(BASE.id,)),
    ]


def test_adapters_share_the_engine_of_their_base_with_all_arms() -> None:
    pointer = Pointer(stable=TUNED.id, previous=BASE.id, fallback=BASE.id, canary=REWORDED.id)
    (placed,) = place(pointer, ALL, adapted, shipped=TUNED.id)
    assert placed.weights == Path("base")
    assert placed.arms == ("stable", "canary", "fallback", "previous")
    assert placed.served == (BASE.id,)
    assert placed.adapters == {TUNED.id: Path("adapter"), REWORDED.id: Path("adapter")}
    assert placed.needed == TUNED.id
    assert placed.answers_as == (BASE.id, TUNED.id, REWORDED.id)


def test_after_an_undo_the_engine_of_the_base_comes_first() -> None:
    pointer = Pointer(stable=BASE.id, previous=TUNED.id, fallback=BASE.id)
    placements = place(pointer, ALL, merged, shipped=TUNED.id)
    assert [placed.arms for placed in placements] == [("stable", "fallback"), ("previous",)]


def test_a_stable_version_without_weights_here_leaves_the_shipped_one_to_promote() -> None:
    placements = place(Pointer(stable=ELSEWHERE.id), ALL, merged, shipped=TUNED.id)
    assert [(placed.weights, placed.arms) for placed in placements] == [(Path("merged"), ("shipped",))]
    assert [placed.needed for placed in placements] == [TUNED.id]


def test_only_what_may_take_traffic_under_its_own_id_is_served() -> None:
    versions = [registered(BASE), registered(TUNED), registered(REWORDED, releasable=False)]
    outside = replace(TUNED, name="outside")
    versions.append(registered(outside, served_name="somebody/else"))
    (placed,) = place(Pointer(stable=TUNED.id), versions, merged, shipped=TUNED.id)
    assert placed.served == (TUNED.id,)
