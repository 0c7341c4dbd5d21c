"""What `model diff` is told by: every part of a version, once, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from serving.differences import differences
from serving.manifests import Manifest
from serving.prompting import PromptTemplate, Shot
from serving.versions import Decoding, ModelVersion

ONE = ModelVersion(
    name="one",
    base_digest="b" * 64,
    adapter_digest=None,
    prompt=PromptTemplate(
        name="short",
        system="Answer from the passages.\nWrite JSON.",
        shots=(Shot(context="[1] Refunds: 30 days.", question="How long?", answer='{"answer": "30 days"}'),),
    ),
    task="support_answer",
    schema={"type": "object", "properties": {"answer": {"type": "string"}, "tone": {"type": "string"}}},
)


def parts(one: ModelVersion, other: ModelVersion, **facts: object) -> dict[str, tuple[object, object]]:
    manifests = (Manifest.of(one, {}, author="").as_json(), Manifest.of(other, facts, author="").as_json())
    found = differences(one.definition(), other.definition(), manifests=manifests)
    assert len({each.part for each in found}) == len(found)
    return {each.part: (each.before, each.after) if not each.lines else ("text", "") for each in found}


def test_equal_versions_do_not_differ_whoever_registered_them() -> None:
    assert parts(ONE, replace(ONE, name="two")) == {}


def test_each_part_of_the_identity_is_told() -> None:
    assert parts(ONE, replace(ONE, adapter_digest="a" * 64)) == {"adapter_digest": (None, "a" * 64)}
    assert parts(ONE, replace(ONE, base_digest="c" * 64)) == {"base_digest": ("b" * 64, "c" * 64)}
    assert parts(ONE, replace(ONE, prompt_budget_tokens=99)) == {"prompt_budget_tokens": (700, 99)}
    assert parts(ONE, replace(ONE, task="routing")) == {"task": ("support_answer", "routing")}
    warm = Decoding(temperature=0.5, constrained=False)
    assert parts(ONE, replace(ONE, decoding=warm)) == {
        "decoding.temperature": (0.0, 0.5),
        "decoding.constrained": (True, False),
    }


def test_the_record_is_told_down_to_the_value() -> None:
    recipe = {"epochs": 2, "lora": {"rank": 16, "alpha": 32}}
    assert parts(ONE, ONE, recipe=recipe, metrics={"tone": 0.97}, dataset_sha256="d" * 64) == {
        "dataset_sha256": (None, "d" * 64),
        "recipe.epochs": (None, 2),
        "recipe.lora": (None, {"rank": 16, "alpha": 32}),
        "metrics.tone": (None, 0.97),
    }


def test_a_prompt_is_compared_line_by_line() -> None:
    reworded = replace(ONE.prompt, system="Answer from the passages.\nWrite one JSON object.")
    other = replace(ONE, prompt=reworded)
    (found,) = differences(ONE.definition(), other.definition(), manifests=({}, {}))
    assert found.part == "prompt"
    assert "-Write JSON." in found.lines
    assert "+Write one JSON object." in found.lines
    assert not any(line.startswith(("-", "+")) and "passages" in line for line in found.lines)
    shorter = replace(ONE, prompt=replace(ONE.prompt, shots=()))
    (found,) = differences(ONE.definition(), shorter.definition(), manifests=({}, {}))
    assert "-How long?" in found.lines


def test_the_order_of_a_schema_counts_because_the_model_writes_in_it() -> None:
    properties = dict(reversed(ONE.schema["properties"].items()))
    other = replace(ONE, schema={**ONE.schema, "properties": properties})
    (found,) = differences(ONE.definition(), other.definition(), manifests=({}, {}))
    assert found.part == "schema"
    assert any(line.startswith("+") and "tone" in line for line in found.lines)
