"""House rules that no linter checks: module names, where SQL stands, where the telemetry SDK is imported."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("retrieval", "serving", "gateway", "eval", "deploy")
EMPTY_WORDS = {"utils", "common", "helpers", "misc", "base", "core", "kit", "lib", "util", "helper"}
SDK_ENTRY_POINTS = {"gateway/telemetry.py", "deploy/cli.py"}
# A statement in Python means that a query is not in a .sql file under its name.
STATEMENT = re.compile(
    r"\b(SELECT\s.+\sFROM\s|INSERT\s+INTO\s|UPDATE\s+\w[\w.]*\s+SET\s|DELETE\s+FROM\s|TRUNCATE\s+\w|"
    r"(CREATE|ALTER|DROP)\s+(TABLE|INDEX|SCHEMA|POLICY|MATERIALIZED)\b)",
    re.DOTALL,
)
# Provisioning and migration talk to the server itself; everything else names its queries.
SQL_ALLOWED = {"deploy/postgres.py", "deploy/migrate.py"}


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def string_constants(tree: ast.AST) -> Iterator[str]:
    """Every string in the module except docstrings, which may quote SQL to explain it."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


@pytest.mark.parametrize("path", list(modules()), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_module_follows_the_house_rules(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    words = set(path.stem.strip("_").split("_")) | set(path.relative_to(ROOT).parent.parts)
    assert not words & EMPTY_WORDS, f"{name}: name the module after what it holds"

    tree = ast.parse(path.read_text(encoding="utf-8"))
    if name not in SQL_ALLOWED:
        found = [text for text in string_constants(tree) if STATEMENT.search(text)]
        assert not found, f"{name}: move this statement to a named query in sql/: {found[0][:80]!r}"

    if name not in SDK_ENTRY_POINTS:
        imported = {
            alias.name if isinstance(node, ast.Import) else node.module or ""
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        sdk = [module for module in imported if module.startswith("opentelemetry.sdk")]
        assert not sdk, f"{name}: packages use the telemetry API; the SDK belongs to entry points"


def test_statement_pattern_finds_sql_and_leaves_prose() -> None:
    assert STATEMENT.search("SELECT a FROM b")
    assert STATEMENT.search("DELETE FROM chunk")
    assert not STATEMENT.search("select the article from the list")
    assert not STATEMENT.search("retrieval.search")
