"""Masks of updates: what may be named, and what becomes of a map."""

from __future__ import annotations

import pytest

from core.fields import Fields
from core.masks import check_mask, masked_map

PRESENT, WANTED = {"a": "1", "b": "2"}, {"b": "3", "c": "4"}


@pytest.mark.parametrize(
    ("paths", "refused"),
    [
        ((), ["it is empty: name some of name, labels, labels.KEY"]),
        (("name", "labels", "labels.a"), []),
        (
            ("uid", "labelsa"),
            [f"{path!r} can't be set: give some of name, labels, labels.KEY" for path in ("uid", "labelsa")],
        ),
    ],
)
def test_what_may_be_named(paths: tuple[str, ...], refused: list[str]) -> None:
    fields = Fields()
    check_mask(fields, paths, ("name", "labels"), map_field="labels")
    assert [(each.field, each.description) for each in fields.violations] == [("update_mask", it) for it in refused]


def test_without_a_map_no_key_may_be_named() -> None:
    fields = Fields()
    check_mask(fields, ["name", "labels.a"], ("name",))
    assert [each.description for each in fields.violations] == ["'labels.a' can't be set: give some of name"]


@pytest.mark.parametrize(
    ("paths", "becomes"),
    [
        ({"name"}, PRESENT),
        ({"labels"}, WANTED),
        ({"labels.b"}, {"a": "1", "b": "3"}),
        ({"labels.c", "name"}, {"a": "1", "b": "2", "c": "4"}),
        ({"labels.a", "labels.never"}, {"b": "2"}),
        ({"labels", "labels.a"}, WANTED),
    ],
    ids=lambda value: ",".join(sorted(value)),
)
def test_what_becomes_of_a_map(paths: set[str], becomes: dict[str, str]) -> None:
    assert masked_map("labels", paths, PRESENT, WANTED) == becomes
    assert PRESENT == {"a": "1", "b": "2"}
