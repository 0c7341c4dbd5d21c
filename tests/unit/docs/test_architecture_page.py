"""docs/architecture.md is the contract between packages: all of it is true, and nothing is missing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pytest

from tests.unit.docs.pages import ROOT, page

PAGE = page("docs/architecture.md")
PACKAGES = ("retrieval", "serving", "gateway", "eval", "deploy")

#: What needs no words of a contract, like constants, settings and errors.
SELF_EVIDENT = {"main", "errors", "named_queries", "digest", "Scope", "Form", "Unfit", "Vector", "Shown"}

_MODULE = re.compile(r"^# (?P<path>\S+\.py)$")
_DOTTED = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+")
_FILE = re.compile(r"(?:\w+/)*\w+\.py")
_TABLE = re.compile(r"^CREATE TABLE (?P<schema>\w+)\.(?P<name>\w+)", re.MULTILINE)

Function = ast.FunctionDef | ast.AsyncFunctionDef
Named = ast.ClassDef | Function


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A class or a function as the page has it."""

    module: str
    node: Named

    def __str__(self) -> str:
        return f"{self.module}:{self.node.name}"


def promises() -> Iterator[Promise]:
    """Every declaration of the blocks, under the module that the comment above it names."""
    for block in PAGE.blocks:
        module, lines = "", list[str]()
        for line in [*block.text.splitlines(), "# end.py"] if block.language == "py" else ():
            if found := _MODULE.match(line):
                for node in ast.parse("\n".join(lines)).body:
                    assert isinstance(node, Named), f"{block}: {ast.unparse(node)} declares nothing"
                    yield Promise(module=module, node=node)
                module, lines = found["path"], []
            else:
                lines.append(line)


PROMISES = list(promises())


@cache
def declared(module: str) -> dict[str, ast.stmt]:
    """Everything that a module of the code declares at its top level."""
    return _named(ast.parse((ROOT / module).read_text(encoding="utf-8")).body)


@pytest.mark.parametrize("promise", PROMISES, ids=str)
def test_a_promise_is_kept(promise: Promise) -> None:
    real = declared(promise.module).get(promise.node.name)
    assert real is not None, f"{promise.module} has no {promise.node.name}"
    if isinstance(promise.node, ast.ClassDef):
        assert isinstance(real, ast.ClassDef)
        _same_fields(promise.node, real)
        there = _named(real.body)
        for told in promise.node.body:
            if isinstance(told, Function):
                assert told.name in there, f"{promise} has no {told.name}"
                _same_function(told, there[told.name])
    else:
        _same_function(promise.node, real)


def test_nothing_that_crosses_packages_is_left_out() -> None:
    told = {promise.node.name for promise in PROMISES} | SELF_EVIDENT
    missing = {
        f"{module}.{name}"
        for module, name in crossing()
        if name not in told and not name.isupper() and not name.endswith(("Error", "Settings"))
    }
    assert not missing, f"used by another package, and not in {PAGE.name}: {', '.join(sorted(missing))}"


def crossing() -> Iterator[tuple[str, str]]:
    """Module and name of everything that one package imports from another."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module:
                    owner = node.module.partition(".")[0]
                    if owner in PACKAGES and owner != package:
                        yield from ((node.module, alias.name) for alias in node.names)


def test_files_and_modules_exist() -> None:
    found = [f"{line}: {name}" for line, code in PAGE.inline_code() for name in _unknown(code)]
    assert not found, "\n".join(found)


def _unknown(code: str) -> Iterator[str]:
    for file in _FILE.findall(code):
        if not any((ROOT / folder / file).is_file() for folder in ("", *PACKAGES)):
            yield file
    if "/" not in code:
        yield from (dotted for dotted in _DOTTED.findall(code) if not _resolves(dotted))


def test_tables() -> None:
    there = {
        (found["schema"], found["name"])
        for package in PACKAGES
        for path in (ROOT / package).glob("sql/migrations/*.sql")
        for found in _TABLE.finditer(path.read_text(encoding="utf-8"))
    }
    told = {
        (row["schema"].strip("`"), name)
        for row in PAGE.tables()["Tables"]
        for name in re.findall(r"`(\w+)`", row["tables"])
    }
    assert told == there


def _named(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    return {node.name: node for node in body if isinstance(node, Named)}


def _resolves(dotted: str) -> bool:
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        stem = ROOT.joinpath(*parts[:length])
        if stem.is_dir() or stem.with_suffix(".py").is_file():
            rest = parts[length:]
            return not rest or rest[0] in declared(f"{'/'.join(parts[:length])}.py")
    return False


def _same_fields(told: ast.ClassDef, real: ast.ClassDef) -> None:
    """The fields of the page are those of the code, in order; a page that names none promises none."""
    fields = _fields(told)
    properties = {
        f"{node.name}: {ast.unparse(node.returns)}"
        for node in real.body
        if isinstance(node, ast.FunctionDef) and node.returns and _is_property(node)
    }
    stored = [field for field in fields if field not in properties]
    assert not fields or stored == _fields(real), f"{told.name}: the page and the code name other fields"


def _fields(node: ast.ClassDef) -> list[str]:
    return [
        f"{each.target.id}: {ast.unparse(each.annotation)}"
        for each in node.body
        if isinstance(each, ast.AnnAssign)
        and isinstance(each.target, ast.Name)
        and not each.target.id.startswith("_")
    ]


def _is_property(node: ast.FunctionDef) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "property" for each in node.decorator_list)


def _same_function(told: Function, real: ast.stmt) -> None:
    assert isinstance(real, Function), f"{told.name} is no function"
    if not told.args.args and not told.args.kwonlyargs and told.returns is None:
        return  # a name, and no promise about its parameters
    assert _parameters(told) == _parameters(real), f"{told.name}: the page and the code take other parameters"
    if told.returns is not None:
        assert real.returns is not None
        assert ast.unparse(told.returns) == ast.unparse(real.returns), f"{told.name} returns something else"


def _parameters(node: Function) -> list[tuple[str, bool, bool]]:
    """Name, whether by keyword only, and whether it may be left out, of each parameter."""
    plain = node.args.posonlyargs + node.args.args
    optional = len(plain) - len(node.args.defaults)
    found = [(each.arg, False, n >= optional) for n, each in enumerate(plain)]
    found += [
        (each.arg, True, default is not None)
        for each, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    ]
    return [each for each in found if each[0] not in ("self", "cls")]
