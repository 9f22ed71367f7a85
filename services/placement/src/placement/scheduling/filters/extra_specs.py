"""Extra specs of flavors, and the operators that their values may begin with: those of nova.

    =  ==  !=  >=  <=             numbers; `=` is at least
    s==  s!=  s>=  s>  s<=  s<    texts
    <in>                          the text contains it
    <all-in> a b                  the text, taken as a list, has all of them
    <or> a <or> b                 it is one of them

Without an operator the text itself. Source: nova's `nova.scheduler.filters.extra_specs_ops`, "Flavors" in its guide.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping

Predicate = Callable[[str], bool]

AGGREGATE_SCOPE = "aggregate_instance_extra_specs"
CAPABILITIES_SCOPE = "capabilities"
TRAIT_SCOPE = "trait"

_NUMBERS: Mapping[str, Callable[[float, float], bool]] = {
    "=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
}
_TEXTS: Mapping[str, Callable[[str, str], bool]] = {
    "s==": operator.eq,
    "s!=": operator.ne,
    "s>=": operator.ge,
    "s>": operator.gt,
    "s<=": operator.le,
    "s<": operator.lt,
}


def predicate(requirement: str) -> Predicate:
    """What a value must be, by a requirement such as "<or> ssd <or> nvme"."""
    first, _, rest = requirement.strip().partition(" ")
    rest = rest.strip()
    if first in _NUMBERS:
        return lambda value: _compare_numbers(_NUMBERS[first], value, rest)
    if first in _TEXTS:
        return lambda value: _TEXTS[first](value, rest)
    if first == "<in>":
        return lambda value: rest in value
    if first == "<all-in>":
        wanted = frozenset(rest.split())
        return lambda value: wanted <= frozenset(value.replace(",", " ").split())
    if first == "<or>":
        choices = frozenset(choice.strip() for choice in requirement.split("<or>")[1:])
        return lambda value: value in choices
    return lambda value: value == requirement


def _compare_numbers(compare: Callable[[float, float], bool], value: str, wanted: str) -> bool:
    """What is no number is not what was asked for."""
    try:
        return compare(float(value), float(wanted))
    except ValueError:
        return False


def scoped(extra_specs: Mapping[str, str], scope: str, *, unscoped_too: bool = False) -> Iterator[tuple[str, str]]:
    """Keys without their scope, and requirements. `unscoped_too`: also those that are in none."""
    for key, requirement in sorted(extra_specs.items()):
        head, colon, rest = key.partition(":")
        if colon and head == scope:
            yield rest, requirement
        elif not colon and unscoped_too:
            yield key, requirement
