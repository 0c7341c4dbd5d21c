"""A version's id follows from its content, and a task schema file is read with clear errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from serving.errors import TaskSchemaError
from serving.prompting import PromptTemplate, Shot, Shown
from serving.versions import SCHEMAS, Decoding, ModelVersion, canonical_json, load_task_schema

VERSION = ModelVersion(
    name="support",
    base_digest="b" * 64,
    adapter_digest=None,
    prompt=PromptTemplate(name="p", system="s", shots=(Shot(context="c", question="q", answer="a"),)),
    task="support_answer",
    schema={"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "string"}}},
)


def test_the_id_is_the_name_and_eight_digits_of_the_content() -> None:
    assert VERSION.id == replace(VERSION).id
    assert VERSION.id.startswith("m-support-")
    assert len(VERSION.id) == len("m-support-") + 8


@pytest.mark.parametrize(
    "changed",
    [
        replace(VERSION, name="other"),
        replace(VERSION, base_digest="c" * 64),
        replace(VERSION, adapter_digest="d" * 64),
        replace(VERSION, prompt=replace(VERSION.prompt, system="t")),
        replace(VERSION, prompt=replace(VERSION.prompt, shots=())),
        replace(VERSION, prompt=replace(VERSION.prompt, shows="sentences")),
        replace(VERSION, task="other"),
        replace(VERSION, schema={"type": "object", "properties": {"a": {"type": "string"}}}),
        replace(VERSION, decoding=Decoding(temperature=0.1)),
        replace(VERSION, prompt_budget_tokens=701),
    ],
)
def test_every_part_is_part_of_the_id(changed: ModelVersion) -> None:
    assert changed.id != VERSION.id


def test_the_order_of_properties_is_identity_because_the_model_writes_in_that_order() -> None:
    turned = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
    assert replace(VERSION, schema=turned).id != VERSION.id


@pytest.mark.parametrize("shows", ["passages", "sentences"])
def test_a_definition_read_back_is_the_same_version(shows: Shown) -> None:
    version = replace(VERSION, prompt=replace(VERSION.prompt, shows=shows))
    again = ModelVersion.from_definition(json.loads(canonical_json(version.definition())))
    assert again == version
    assert again.id == version.id


@pytest.mark.parametrize("name", ["support_answer", "ticket_routing"])
def test_packaged_schemas_are_valid_task_schemas(name: str) -> None:
    schema = load_task_schema(SCHEMAS / f"{name}.json")
    assert set(schema["required"]) == set(schema["properties"])
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "line 1, column 2: not JSON"),
        ("[]", '"type": "object"'),
        ('{"type": "object"}', "properties: name at least one field"),
        ('{"type": "object", "properties": {"a": {"type": "wat"}}}', r"\$.properties.a.type"),
        ('{"type": "object", "properties": {"answer": {"type": "number"}}}', "properties.answer"),
        (
            '{"type": "object", "properties": {"a": {"type": "array", "uniqueItems": true}}}',
            r"\$.properties.a.uniqueItems",
        ),
    ],
)
def test_a_bad_schema_file_is_named_with_the_field(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "task.json"
    path.write_text(content)
    with pytest.raises(TaskSchemaError, match=message) as caught:
        load_task_schema(path)
    assert str(path) in str(caught.value)


def test_a_missing_or_binary_schema_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskSchemaError, match="no such task schema file"):
        load_task_schema(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TaskSchemaError, match="not UTF-8"):
        load_task_schema(tmp_path / "binary.json")
