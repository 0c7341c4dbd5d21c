"""What a search's filters may look like: LangChain's operator syntax, checked, as a tree that SQL can read.

Here is decided what needs no database: shapes, operators, sizes and the JSON types of values. Which fields a
tenant has and of what kind they are, the database knows: `retrieval.filter_condition` (0002_search.sql) looks
there and builds the condition. Nothing of a filter becomes part of a statement but through `format`'s `%L`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from enum import StrEnum
from typing import TypeAlias

from retrieval.documents import is_storable
from retrieval.errors import FilterError

#: A value, several of them, or operators with theirs; under `$and`, `$or` and `$not` whole filters.
FilterValue: TypeAlias = (
    "str | int | float | bool | date | Sequence[FilterValue] | Mapping[str, FilterValue] | None"
)
Filters: TypeAlias = Mapping[str, FilterValue]
#: What the database reads: {"and": [...]}, {"or": [...]}, {"not": {...}},
#: or {"field": ..., "op": ..., "values": [...]}.
FilterTree: TypeAlias = dict[str, object]

MAX_COMPARISONS = 50
MAX_DEPTH = 8
MAX_VALUES = 100
LONGEST_NAME = 200
LONGEST_TEXT = 1_000

_ONE_VALUE = frozenset({"$eq", "$ne", "$lt", "$lte", "$gt", "$gte"})
_SEVERAL = frozenset({"$in", "$nin"})
_PATTERNS = frozenset({"$like", "$ilike"})
OPERATORS = (
    "$eq", "$ne", "$lt", "$lte", "$gt", "$gte", "$in", "$nin", "$between", "$exists", "$like", "$ilike",
    "$and", "$or", "$not",
)  # fmt: skip


class FieldKind(StrEnum):
    """What the values of a metadata field are. A `date` is a day, or a time of which the day counts."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    LIST = "list"


def filter_tree(filters: Filters) -> FilterTree | None:
    """The filters as the database takes them; None without any. FilterError names field and operator."""
    if not filters:
        return None
    tree = _all_of(filters, depth=1)
    comparisons = _comparisons(tree)
    if comparisons > MAX_COMPARISONS:
        raise FilterError(f"filters: {comparisons} comparisons, at most {MAX_COMPARISONS} are taken")
    return tree


def require_field_name(name: object) -> str:
    """The name, if a field can have it."""
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_NAME or not is_storable(name):
        raise FilterError(f"filters: {name!r:.50}: a field's name has 1 to {LONGEST_NAME} characters")
    if name.startswith("$"):
        raise FilterError(_unknown_operator(f"filters: {name}"))
    return name


def _all_of(filters: Mapping[str, FilterValue], *, depth: int) -> FilterTree:
    if depth > MAX_DEPTH:
        raise FilterError(f"filters: nested more than {MAX_DEPTH} deep")
    parts = [_part(name, value, depth) for name, value in filters.items()]
    return parts[0] if len(parts) == 1 else {"and": parts}


def _part(name: object, value: FilterValue, depth: int) -> FilterTree:
    if name in ("$and", "$or"):
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise FilterError(f"filters: {name}: give a list of filters")
        return {str(name)[1:]: [_nested(str(name), each, depth) for each in value]}
    if name == "$not":
        # A list counts as all of its parts, as LangChain has it.
        parts = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        if not parts:
            raise FilterError("filters: $not: give a filter")
        nested = [_nested("$not", each, depth) for each in parts]
        return {"not": nested[0] if len(nested) == 1 else {"and": nested}}
    return _field(require_field_name(name), value)


def _nested(name: str, value: FilterValue, depth: int) -> FilterTree:
    if not isinstance(value, Mapping) or not value:
        raise FilterError(f"filters: {name}: its parts are filters, {{field: value}}, got {value!r:.50}")
    return _all_of(value, depth=depth + 1)


def _field(name: str, value: FilterValue) -> FilterTree:
    if isinstance(value, Mapping):
        if not value:
            raise FilterError(f"filters: {name}: give a value, or an operator such as {{'$gte': 5}}")
        parts = [_comparison(name, operator, operand) for operator, operand in value.items()]
        return parts[0] if len(parts) == 1 else {"and": parts}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _comparison(name, "$in", value)
    return _comparison(name, "$eq", value)


def _comparison(name: str, operator: object, operand: FilterValue) -> FilterTree:
    where = f"filters: {name}: {operator}"
    if operator in _ONE_VALUE:
        values = [_value(where, operand)]
    elif operator in _SEVERAL:
        values = _values(where, operand)
    elif operator == "$between":
        values = _values(where, operand)
        if len(values) != 2:
            raise FilterError(f"{where}: give a list of two values, the lower one first")
    elif operator == "$exists":
        if not isinstance(operand, bool):
            raise FilterError(f"{where}: give true or false, got {operand!r:.50}")
        values = [operand]
    elif operator in _PATTERNS:
        if not isinstance(operand, str):
            raise FilterError(f"{where}: give a text with % and _ as wildcards, got {operand!r:.50}")
        if (len(operand) - len(operand.rstrip("\\"))) % 2:
            raise FilterError(f"{where}: the pattern ends in a backslash that escapes nothing")
        values = [_value(where, operand)]
    else:
        raise FilterError(_unknown_operator(where))
    return {"field": name, "op": operator, "values": values}


def _values(where: str, operand: FilterValue) -> list[str | int | float | bool]:
    if not isinstance(operand, Sequence) or isinstance(operand, str):
        raise FilterError(f"{where}: give a list of values, got {operand!r:.50}")
    if not 1 <= len(operand) <= MAX_VALUES:
        raise FilterError(f"{where}: give 1 to {MAX_VALUES} values, got {len(operand)}")
    return [_value(where, each) for each in operand]


def _value(where: str, value: FilterValue) -> str | int | float | bool:
    if isinstance(value, datetime):
        value = value.date()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT or not is_storable(value):
            raise FilterError(f"{where}: a text has at most {LONGEST_TEXT} characters, and no NUL among them")
        return value
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) < 10**300):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise FilterError(f"{where}: values are texts, numbers, dates, true or false, got {value!r:.50}")


def _unknown_operator(where: str) -> str:
    return f"{where}: no such operator; known: {' '.join(OPERATORS)}"


def _comparisons(tree: FilterTree) -> int:
    parts = tree.get("and") or tree.get("or")
    if isinstance(parts, list):
        return sum(_comparisons(part) for part in parts)
    nested = tree.get("not")
    return _comparisons(nested) if isinstance(nested, dict) else 1
