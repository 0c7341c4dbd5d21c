"""docs/settings.md names every setting of every package with its real default, and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from tests.unit.docs.pages import ROOT, page, pages

PACKAGES = ("deploy", "gateway", "retrieval", "serving", "eval")
TABLES = page("docs/settings.md").tables()
#: How a setting's name says its unit.
UNITS = {"_s": "s", "_bytes": "bytes", "_gib": "GiB", "_minute": "requests"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One field of a settings class, as an operator meets it."""

    variables: tuple[str, ...]
    default: str

    def __str__(self) -> str:
        return self.variables[0]


def settings_class(package: str) -> type[BaseSettings]:
    """The one class of the package's settings module."""
    module = import_module(f"{package}.settings")
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, BaseSettings) and value.__module__ == module.__name__
    )
    return found


def settings(package: str) -> Iterator[Setting]:
    """The fields of a package."""
    kind = settings_class(package)
    prefix = kind.model_config.get("env_prefix", "")
    for name, field in kind.model_fields.items():
        yield Setting(variables=_variables(prefix, name, field), default=_default(kind, field))


def _variables(prefix: str, name: str, field: FieldInfo) -> tuple[str, ...]:
    match field.validation_alias:
        case AliasChoices(choices=choices):
            return tuple(str(choice) for choice in choices)
        case str(alias):
            return (alias,)
        case _:
            return (f"{prefix}{name}".upper(),)


def _default(kind: type[BaseSettings], field: FieldInfo) -> str:
    """The default as the page writes it: code, or `unset` for what is empty."""
    others = {name: other.default for name, other in kind.model_fields.items()}
    value = field.get_default(call_default_factory=True, validated_data=others)
    match value:
        case None | "" | SecretStr() if not value:
            return "unset"
        case bool():
            return f"`{str(value).lower()}`"
        case Path():
            return f"`{value.relative_to(ROOT) if value.is_relative_to(ROOT) else value}`"
        case float():
            return f"`{value:g}`"
        case _:
            return f"`{value}`"


def rows(package: str) -> dict[str, dict[str, str]]:
    """The page's rows of a package, by their first variable."""
    return {
        row["variable"].split("`")[1]: row
        for heading, found in TABLES.items()
        if heading.startswith(f"{package}:")
        for row in found
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_the_page_names_exactly_the_settings_there_are(package: str) -> None:
    assert sorted(rows(package)) == sorted(str(each) for each in settings(package))


@pytest.mark.parametrize(
    ("package", "setting"),
    [(package, each) for package in PACKAGES for each in settings(package)],
    ids=lambda value: str(value),
)
def test_a_setting_is_told_truly(package: str, setting: Setting) -> None:
    row = rows(package).get(str(setting))
    assert row is not None, f"docs/settings.md: add {setting} to the table of {package}"
    assert row["variable"] == " or ".join(f"`{name}`" for name in setting.variables)
    assert row["default"] == setting.default
    assert len(row["meaning"]) > 10
    for ending, unit in UNITS.items():
        if str(setting).lower().endswith(ending):
            assert row["unit"] == unit


@pytest.mark.parametrize("package", PACKAGES)
def test_every_setting_is_read_by_some_process(package: str) -> None:
    fields = set(settings_class(package).model_fields)
    read = {
        node.attr
        for each in PACKAGES
        for path in (ROOT / each).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    assert fields <= read


def test_every_package_with_settings_has_a_table() -> None:
    found = {path.parent.name for path in ROOT.glob("*/settings.py")}
    assert found == set(PACKAGES)


#: Of other programs, which happen to begin like ours: the collector's configuration, the e2e tests.
FOREIGN = {"GATEWAY_TARGET", "TWINRAIL_TEST_MODELS"}


def test_no_page_names_a_variable_that_nothing_reads() -> None:
    ours = re.compile(r"\b(?:TWINRAIL|GATEWAY|RETRIEVAL|SERVING|EVAL)_[A-Z_]*[A-Z]\b")
    known = {name for package in PACKAGES for each in settings(package) for name in each.variables} | FOREIGN
    unknown = {
        f"{each.name}:{line}: {name}"
        for each in pages()
        for line, text in each.prose
        for name in ours.findall(text)
        if name not in known and not name.endswith("_KEY")
    }
    assert not unknown, "\n".join(sorted(unknown))
