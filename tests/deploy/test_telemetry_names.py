"""Telemetry names: each stands in an instruments module, and docs/telemetry.md lists exactly those."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.contract import DOCUMENT, documented

ROOT = DOCUMENT.parents[1]
PACKAGES = ("retrieval", "serving", "gateway", "eval", "deploy")
MODULES = tuple(ROOT / package / "instruments.py" for package in ("retrieval", "serving", "gateway"))
CREATORS = {
    "create_counter": "Counter",
    "create_histogram": "Histogram",
    "create_up_down_counter": "UpDownCounter",
    "create_gauge": "Gauge",
    "create_observable_gauge": "Gauge",
}
#: Calls of the OpenTelemetry API whose first argument is a name, or a mapping of names.
NAMING_CALLS = {
    "start_span",
    "start_as_current_span",
    "set_attribute",
    "set_attributes",
    "add_event",
    *CREATORS,
}


def metrics_of(path: Path) -> Iterator[tuple[str, str, str]]:
    """Name, kind and unit of each instrument that a module creates."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CREATORS:
            units = [
                k.value.value for k in node.keywords if k.arg == "unit" and isinstance(k.value, ast.Constant)
            ]
            name = node.args[0]
            assert isinstance(name, ast.Constant), f"{path}: an instrument's name is not a plain string"
            yield str(name.value), CREATORS[node.func.attr], str(units[0])


def constants_of(path: Path) -> Iterator[str]:
    """Dotted names among a module's constants, keys of mappings included: attributes, events, spans."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            values = node.value.keys if isinstance(node.value, ast.Dict) else [node.value]
            for value in values:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    name = value.value
                    if "." in name and " " not in name:
                        yield name


def test_every_metric_of_the_code_is_in_the_contract_with_its_kind_and_unit() -> None:
    code = {name: (kind, unit) for path in MODULES for name, kind, unit in metrics_of(path)}
    pages = {name: (metric.kind, metric.unit) for name, metric in documented().metrics.items()}
    assert pages == code


def test_every_attribute_event_and_span_of_the_code_is_in_the_contract() -> None:
    known = documented()
    for path in MODULES:
        for name in constants_of(path):
            assert name in known.names, (
                f"{path.parent.name}/instruments.py: {name} is not in docs/telemetry.md"
            )


def test_the_contract_lists_no_attribute_that_the_code_lacks() -> None:
    code = {name for path in MODULES for name in constants_of(path)} | {"reason"}
    assert documented().attributes <= code


@pytest.mark.parametrize("package", PACKAGES)
def test_names_are_written_in_instruments_modules_only(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        if path in MODULES:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr in NAMING_CALLS and node.args:
                for name in literals(node.args[0]):
                    raise AssertionError(
                        f"{path.relative_to(ROOT)}:{node.lineno}: {name!r}; "
                        "give it a constant in the package's instruments.py"
                    )


def literals(node: ast.expr) -> Iterator[str]:
    """Names written out in a naming argument; an f-string may only join constants with blanks."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if node.value.strip():
            yield node.value
    elif isinstance(node, ast.JoinedStr):
        for part in node.values:
            yield from literals(part)
    elif isinstance(node, ast.Dict):
        for key in node.keys:
            if key is not None:
                yield from literals(key)
