"""The changes between two states (``before`` and ``after``)."""

from __future__ import annotations

import dataclasses
import enum

import pytest

from usersync.audit.event.diff import difference, from_pairs
from usersync.audit.event.values import Limits
from usersync.config.redaction import Redactor


def diff(before, after, **limits):
    return difference(before, after, Redactor(), Limits(**limits))


@dataclasses.dataclass
class Product:
    name: str
    price: float


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, {"b": [2, 3]}),
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {}, {"a": [1, None]}),
        ({}, {"a": 1}, {"a": [None, 1]}),
        ({}, {"a": None}, {}),
        (None, {"a": None, "b": 1}, {"a": [None, None], "b": [None, 1]}),
        ({"a": 1}, None, {"a": [1, None]}),
        ({"a": 1}, {"a": True}, {"a": [1, True]}),
        ({"a": 1}, {"a": 1.0}, {"a": [1, 1.0]}),
        ({"a": {"x": 1}}, {"a": {"x": 2}}, {"a": [{"x": 1}, {"x": 2}]}),
        ({"a": [1, 2]}, {"a": [1, 2]}, {}),
        (Product("Bolt", 1.0), Product("Bolt", 2.0), {"price": [1.0, 2.0]}),
        (Product("Bolt", 1.0), {"name": "Nut", "price": 1.0}, {"name": ["Bolt", "Nut"]}),
        (5, 6, {"value": [5, 6]}),
        ({1: "a"}, {1: "b"}, {"1": ["a", "b"]}),
    ],
)
def test_only_changed_values_are_in_the_difference(before, after, expected):
    assert diff(before, after) == expected


def test_large_values_are_compared_before_they_are_truncated():
    old, new = diff({"a": "x" * 100 + "1"}, {"a": "x" * 100 + "2"}, text=10)["a"]
    assert old.startswith("xxxxxxxxxx… [cut: 101 characters, sha256 ")
    assert old != new


def test_values_whose_comparison_raises_are_compared_by_their_json():
    class Array(list):
        def __eq__(self, other):
            raise ValueError("ambiguous")

        __hash__ = None

    assert diff({"a": Array([1])}, {"a": Array([2])}) == {"a": [[1], [2]]}


def test_changes_may_be_passed_instead_of_states():
    assert from_pairs({"a": (1, 2), "b": [3, 4], "c": 5}, Redactor(), Limits()) == {
        "a": [1, 2],
        "b": [3, 4],
        "c": [None, 5],
    }


class Name(enum.StrEnum):
    PRICE = "price"


class Plain:
    def __init__(self, size):
        self.size = size
        self._secret = size


def test_keys_of_any_type_are_distinguished():
    assert diff({Name.PRICE: 1}, {Name.PRICE: 2}) == {"price": [1, 2]}
    assert diff({1: "a", "1": "b"}, {1: "c", "1": "b"}) == {"1": ["a", "c"]}
    assert all(type(key) is str for key in diff({Name.PRICE: 1}, None))


def test_a_plain_object_is_compared_by_its_attributes():
    assert diff(Plain(1), Plain(2)) == {"size": [1, 2]}
