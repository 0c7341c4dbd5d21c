from __future__ import annotations

from pathlib import Path

import pytest

from eval.arms import DEFAULT_ARMS, Arm, Pin, choose_arms, improved_version, parse_arm, resolve_arms
from eval.errors import ArmError

POINTERS: dict[str, dict[str, str | None]] = {
    "knowledge": {"stable": "k-a-1@7", "previous": "k-a-0@7", "canary": None, "fallback": None},
    "model": {"stable": "m-support-1", "fallback": "m-base-1", "previous": None, "canary": None},
}


def test_the_three_default_arms_become_pins() -> None:
    prompt_only, rag_base, rag_tuned = resolve_arms(DEFAULT_ARMS, POINTERS)
    assert prompt_only.pin.as_body() == {"model": "m-base-1", "context": "none"}
    assert rag_base.pin.as_body() == {"knowledge": "k-a-1@7", "model": "m-base-1"}
    assert rag_tuned.pin.as_body() == {"knowledge": "k-a-1@7", "model": "m-support-1"}
    assert [arm.retrieves for arm in (prompt_only, rag_base, rag_tuned)] == [False, True, True]


def test_reads_a_written_arm() -> None:
    assert parse_arm("old=knowledge:k-x-1@3,model:m-y-2") == Arm(
        name="old", pin=Pin(knowledge="k-x-1@3", model="m-y-2")
    )
    assert parse_arm("live=").pin == Pin()


@pytest.mark.parametrize(
    "text",
    [
        "no-equals",
        "Bad Name=model:m",
        "a=engine:x",
        "a=model",
        "a=model:",
        "a=model:x,model:y",
        "a=context:silver",
        "a=kind:best",
        "a=context:none,knowledge:k",
        "a=constrained:maybe",
    ],
)
def test_a_badly_written_arm_is_refused(text: str) -> None:
    with pytest.raises(ArmError, match="--arm"):
        parse_arm(text)


def test_what_is_left_out_is_the_stable_version() -> None:
    (arm,) = resolve_arms([parse_arm("live=")], POINTERS)
    assert arm.pin == Pin(knowledge="k-a-1@7", model="m-support-1")


def test_a_pointer_word_without_version_is_refused() -> None:
    with pytest.raises(ArmError, match="no canary version on the model rail"):
        resolve_arms([parse_arm("a=model:canary")], POINTERS)


def test_the_oracle_is_asked_by_name_and_reads_one_knowledge_version() -> None:
    chosen = choose_arms(["rag_base", "oracle", "tuned"], [])
    _, oracle, tuned = resolve_arms(chosen, POINTERS)
    assert oracle.pin == Pin(knowledge="k-a-1@7", model="m-base-1", context="gold")
    assert (oracle.retrieves, oracle.reads_knowledge) == (False, True)
    assert (tuned.retrieves, tuned.reads_knowledge, tuned.pin.knowledge) == (False, False, None)
    assert "oracle" not in {arm.name for arm in choose_arms([], [])}, "each arm costs as much as any other"
    assert Arm.from_json(oracle.as_json()) == oracle


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("a=model:fallback,context:none", "prompt"),
        ("a=context:none", "tuned"),
        ("a=model:fallback", "rag"),
        ("rag_improved=knowledge:canary,model:fallback", "rag_plus"),
        ("a=model:fallback,context:gold", "oracle"),
        ("a=", "hybrid"),
        ("a=model:m-y-2,kind:rag_plus", "rag_plus"),
    ],
)
def test_an_arms_kind_follows_from_its_pin_unless_it_is_stated(written: str, kind: str) -> None:
    arm = parse_arm(written)
    assert arm.kind == kind
    pointers = {rail: {**words, "canary": f"{rail[0]}-b-2"} for rail, words in POINTERS.items()}
    assert resolve_arms([arm], pointers)[0].kind == kind, "also when the word `fallback` has become an id"


@pytest.mark.parametrize(
    ("named", "ready", "found"),
    [
        ({"canary": "k-b-2@7", "shadow": "k-c-3@7"}, ["k-a-1", "k-b-2", "k-c-3"], "k-b-2@7"),
        ({"canary": None, "shadow": "k-c-3@7"}, ["k-a-1", "k-b-2", "k-c-3"], "k-c-3@7"),
        ({}, ["k-b-2", "k-a-1"], "k-b-2@7"),
        ({}, ["k-a-1"], None),
    ],
)
def test_improved_is_the_canary_the_shadow_or_the_only_other_version(
    named: dict[str, str | None], ready: list[str], found: str | None
) -> None:
    versions = [{"id": each, "state": "ready"} for each in ready] + [{"id": "k-d-4", "state": "building"}]
    pointer = {"stable": "k-a-1@7", **named}
    assert improved_version(pointer, versions) == found
    arms = choose_arms(["rag_improved"], [])
    pointers = {**POINTERS, "knowledge": {**POINTERS["knowledge"], "improved": found}}
    if found is None:
        with pytest.raises(ArmError, match="no index version beside the stable one; build one"):
            resolve_arms(arms, pointers)
    else:
        (arm,) = resolve_arms(arms, pointers)
        assert (arm.pin, arm.kind) == (Pin(knowledge=found, model="m-base-1"), "rag_plus")


def test_which_of_several_versions_is_improved_has_to_be_said() -> None:
    versions = [{"id": each, "state": "ready"} for each in ("k-a-1", "k-b-2", "k-c-3")]
    with pytest.raises(ArmError, match=r"k-b-2, k-c-3.*rag_improved=knowledge:ID"):
        improved_version({"stable": "k-a-1@7"}, versions)


def test_an_arm_can_be_asked_with_a_prompt_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "terse.yaml"
    file.write_text("name: terse\nsystem: Be terse.\n", encoding="utf-8")
    (arm,) = resolve_arms([parse_arm(f"a=model:fallback,context:none,prompt:{file}")], POINTERS)
    prompt = {"name": "terse", "system": "Be terse.", "shots": []}
    assert arm.pin.as_body() == {"model": "m-base-1", "context": "none", "prompt": prompt}
    assert Arm.from_json(arm.as_json()) == arm
    with pytest.raises(ArmError, match=r"--arm a: prompt:.*no such prompt file"):
        parse_arm(f"a=prompt:{tmp_path / 'none.yaml'}")


def test_an_arm_may_let_the_model_write_freely() -> None:
    free = parse_arm("free=model:m-a-1,constrained:no")
    assert free.pin.as_body() == {"model": "m-a-1", "constrained": False}
    (resolved,) = resolve_arms([free], {"knowledge": {"stable": "k-1@3"}})
    assert resolved.pin.constrained is False
    assert Arm.from_json(resolved.as_json()) == resolved


def test_two_arms_with_one_pin_are_refused() -> None:
    same = {**POINTERS, "model": {"stable": "m-base-1", "fallback": "m-base-1"}}
    with pytest.raises(ArmError, match="rag_base and rag_tuned are the same pin"):
        resolve_arms(DEFAULT_ARMS, same)


def test_choosing_arms() -> None:
    written = parse_arm("mine=model:m-1")
    assert [arm.name for arm in choose_arms([], [])] == ["prompt_only", "rag_base", "rag_tuned"]
    assert choose_arms([], [written]) == (written,)
    assert [arm.name for arm in choose_arms(["rag_base"], [written])] == ["rag_base", "mine"]
    with pytest.raises(ArmError, match="no arm is called 'rag'"):
        choose_arms(["rag"], [])
    with pytest.raises(ArmError, match="given twice"):
        choose_arms([], [written, written])
