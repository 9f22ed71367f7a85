from __future__ import annotations

import pytest

from conductor.violations import explained
from core.errors import AlreadyExists, CirraError, FailedPrecondition, NotFound, ResourceExhausted
from core.eventlog.errors import LimitExceeded, UniqueViolation


@pytest.mark.parametrize(
    ("scope", "key", "text", "field"),
    [
        ("flavor-name", "m1.small", "a flavor named 'm1.small' exists already", "flavor.display_name"),
        ("key-pair-name", "u1/a/b", "a key pair named 'a/b' exists already", "key_pair.display_name"),
        ("address/s1", "10.0.0.5", "10.0.0.5 is in use", "port.fixed_ips"),
        ("mac/n1", "fa:16:3e:00:00:01", "fa:16:3e:00:00:01 is in use", "port.mac_address"),
        ("physical-network", "physnet1", "on 'physnet1' already", "network.physical_network"),
    ],
)
def test_what_is_taken_names_field_and_remedy(scope: str, key: str, text: str, field: str) -> None:
    error = explained(UniqueViolation(scope, key, "owner"))
    assert isinstance(error, AlreadyExists)
    assert text in error.message and error.message.startswith(field)
    assert error.metadata["field"] == field and error.remedy


def test_a_quota_says_how_much_of_it_is_used() -> None:
    error = explained(LimitExceeded("quota/vcpus", "p1", used=18, limit=20, delta=4))
    assert isinstance(error, ResourceExhausted)
    assert (error.reason, error.metadata["resource"]) == ("QUOTA_EXCEEDED", "vcpus")
    assert "18 of 20 used, 4 more asked" in error.message


def test_a_thing_in_use_and_a_thing_that_is_gone() -> None:
    in_use = explained(LimitExceeded("ports-on-network", "n1", used=3, limit=1, delta=1))
    assert isinstance(in_use, FailedPrecondition)
    assert (in_use.reason, in_use.remedy) == ("NETWORK_IN_USE", "delete its ports first")
    gone = explained(LimitExceeded("image-users", "i1", used=0, limit=0, delta=1))
    assert isinstance(gone, NotFound)


@pytest.mark.parametrize(
    "error", [NotFound("no"), UniqueViolation("other", "k", "o"), LimitExceeded("capacity/vcpus", "h", 1, 1, 1)]
)
def test_what_it_does_not_know_it_leaves_alone(error: CirraError) -> None:
    assert explained(error) is error
