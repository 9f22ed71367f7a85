"""The operators of extra specs: those of nova."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placement.scheduling.filters.capabilities import version_fits
from placement.scheduling.filters.extra_specs import predicate, scoped


# As nova's own tests have them (nova/tests/unit/scheduler/filters/test_extra_specs_ops.py).
@pytest.mark.parametrize(
    ("value", "requirement", "matches"),
    [
        ("1", "1", True),
        ("", "1", False),
        ("3", "1", False),
        ("222", "2", False),
        ("4", "> 2", False),
        ("123", "= 123", True),
        ("124", "= 123", True),
        ("34", "= 234", False),
        ("34", "=", False),
        ("123", "s== 123", True),
        ("1234", "s== 123", False),
        ("1234", "s!= 123", True),
        ("1000", "s>= 234", False),
        ("1234", "s<= 1000", False),
        ("2", "s< 12", False),
        ("12", "s> 2", False),
        ("12", "s< 2", True),
        ("12311321", "<in> 11", True),
        ("12310321", "<in> 11", False),
        ("12", "<or> 11 <or> 12", True),
        ("13", "<or> 11 <or> 12", False),
        ("aes mmx aux", "<all-in> aes mmx", True),
        ("aes,mmx", "<all-in> aes mmx", True),
        ("aes aux", "<all-in> aes mmx", False),
        ("4", "<= 2", False),
        ("2", "<= 2", True),
        ("4", ">= 2", True),
        ("3", "== 3", True),
        ("3.0", "== 3", True),
        ("3", "!= 3", False),
        ("x", "== 3", False),
        ("x", "!= 3", False),
    ],
)
def test_an_operator(value: str, requirement: str, matches: bool) -> None:
    assert predicate(requirement)(value) is matches


@given(st.integers(), st.integers())
def test_numbers_are_compared_as_numbers(value: int, wanted: int) -> None:
    def holds(operator: str) -> bool:
        return predicate(f"{operator} {wanted}")(str(value))

    assert holds("=") is holds(">=")
    assert holds("==") is not holds("!=")
    assert holds(">=") or holds("<=")
    assert (holds(">=") and holds("<=")) is holds("==")


WORDS = st.text("abc1 ", min_size=1).map(str.strip).filter(lambda text: text and not text.startswith(("=", "s", "<")))


@given(st.lists(WORDS, min_size=1, max_size=4), WORDS)
def test_one_of_several_is_membership(choices: list[str], value: str) -> None:
    requirement = "".join(f"<or> {choice} " for choice in choices).strip()
    assert predicate(requirement)(value) is (value in choices)


def test_scopes() -> None:
    specs = {"capabilities:cpu_arch": "x86_64", "ssd": "true", "hw:cpu_policy": "dedicated", "capabilities:a:b": "1"}
    assert list(scoped(specs, "capabilities")) == [("a:b", "1"), ("cpu_arch", "x86_64")]
    assert list(scoped(specs, "aggregate_instance_extra_specs", unscoped_too=True)) == [("ssd", "true")]


@pytest.mark.parametrize(
    ("version", "requirements", "fits"),
    [
        ("7.2.5", ">=6.0, <8", True),
        ("7.2.5", ">=8", False),
        ("7.2", "==7.2.0", True),
        ("7.2", "7.2", True),
        ("QEMU 7.2.1", ">7.2", True),
        ("7.2", "!=7.2", False),
        ("", ">=1", False),
        ("7", "new", False),
    ],
)
def test_versions(version: str, requirements: str, fits: bool) -> None:
    assert version_fits(version, requirements) is fits
