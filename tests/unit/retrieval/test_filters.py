"""Filters before any database has seen them: what is accepted, as which tree, and what is refused by name."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import FilterError
from retrieval.filters import OPERATORS, filter_tree


def leaf(field: str, op: str, *values: object) -> dict[str, object]:
    return {"field": field, "op": op, "values": list(values)}


@pytest.mark.parametrize(
    ("filters", "tree"),
    [
        ({}, None),
        ({"a": "x"}, leaf("a", "$eq", "x")),
        ({"a": ["x", "y"]}, leaf("a", "$in", "x", "y")),
        ({"a": ("x",)}, leaf("a", "$in", "x")),
        ({"a": 3, "b": True}, {"and": [leaf("a", "$eq", 3), leaf("b", "$eq", True)]}),
        ({"a": {"$gte": 1, "$lt": 2.5}}, {"and": [leaf("a", "$gte", 1), leaf("a", "$lt", 2.5)]}),
        ({"a": {"$between": [1, 2]}}, leaf("a", "$between", 1, 2)),
        ({"a": {"$exists": False}}, leaf("a", "$exists", False)),
        ({"a": {"$like": "50\\%%"}}, leaf("a", "$like", "50\\%%")),
        ({"a": date(2026, 1, 31)}, leaf("a", "$eq", "2026-01-31")),
        ({"a": datetime(2026, 1, 31, 9, tzinfo=UTC)}, leaf("a", "$eq", "2026-01-31")),
        ({"$or": [{"a": 1}, {"b": 2}]}, {"or": [leaf("a", "$eq", 1), leaf("b", "$eq", 2)]}),
        ({"$and": [{"a": 1}]}, {"and": [leaf("a", "$eq", 1)]}),
        ({"$not": {"a": 1}}, {"not": leaf("a", "$eq", 1)}),
        ({"$not": [{"a": 1}, {"b": 2}]}, {"not": {"and": [leaf("a", "$eq", 1), leaf("b", "$eq", 2)]}}),
    ],
)
def test_shapes(filters: dict[str, Any], tree: object) -> None:
    assert filter_tree(filters) == tree


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"a": {"$gte": None}}, r"a: \$gte: values are texts, numbers, dates, true or false, got None"),
        ({"a": float("nan")}, r"a: \$eq: values are"),
        ({"a": {"$in": "x"}}, r"a: \$in: give a list of values, got 'x'"),
        ({"a": []}, r"a: \$in: give 1 to 100 values, got 0"),
        ({"a": ["x"] * 101}, r"a: \$in: give 1 to 100 values, got 101"),
        ({"a": {"$between": [1]}}, r"a: \$between: give a list of two values"),
        ({"a": {"$exists": 1}}, r"a: \$exists: give true or false, got 1"),
        ({"a": {"$like": 5}}, r"a: \$like: give a text with % and _"),
        ({"a": {"$like": "x\\"}}, r"a: \$like: the pattern ends in a backslash"),
        ({"a": {"$regex": "x"}}, r"a: \$regex: no such operator; known: \$eq \$ne"),
        ({"$nor": [{"a": 1}]}, r"\$nor: no such operator"),
        ({"a": {"gte": 5}}, r"a: gte: no such operator"),
        ({"a": {}}, r"a: give a value, or an operator"),
        ({"$or": []}, r"\$or: give a list of filters"),
        ({"$or": {"a": 1}}, r"\$or: give a list of filters"),
        ({"$and": ["a"]}, r"\$and: its parts are filters"),
        ({"$not": 3}, r"\$not: its parts are filters"),
        ({"": 1}, "a field's name has 1 to 200 characters"),
        ({"a\x00": 1}, "a field's name has 1 to 200 characters"),
        ({"a": "x\x00"}, r"a: \$eq: a text has at most"),
        ({str(number): 1 for number in range(51)}, "51 comparisons, at most 50"),
    ],
)
def test_refusals_name_field_and_operator(filters: dict[str, Any], message: str) -> None:
    with pytest.raises(FilterError, match=message):
        filter_tree(filters)


def test_nesting_ends_somewhere() -> None:
    filters: dict[str, Any] = {"a": 1}
    for _ in range(9):
        filters = {"$not": filters}
    with pytest.raises(FilterError, match="nested more than 8 deep"):
        filter_tree(filters)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
names = st.sampled_from([*OPERATORS, "a", "b", "$x"])
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(names, anything, max_size=3))
def test_any_json_is_a_tree_or_a_filter_error(filters: dict[str, Any]) -> None:
    try:
        tree = filter_tree(filters)
    except FilterError:
        return
    assert json.loads(json.dumps(tree)) == tree
