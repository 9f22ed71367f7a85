"""Nothing stays in between: each state of each thing is one of rest, or names the saga that ends it in bounded time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from cirra.compute.v1.compute_pb2 import InstanceStatus
from cirra.image.v1.image_pb2 import ImageStatus
from cirra.network.v1.network_pb2 import PortStatus
from core.saga import Saga
from tests.harness.every_saga import every_saga

LONGEST_STEP = timedelta(hours=1)

# States in which nobody is at work, and why that is so.
AT_REST: Mapping[str, str] = {
    "INSTANCE_STATUS_ACTIVE": "built, and its host says it runs",
    "INSTANCE_STATUS_SHUTOFF": "built, and its host says it is off",
    "INSTANCE_STATUS_ERROR": "with the cause, for a person; a stuck saga puts it there as well",
    "INSTANCE_STATUS_DELETED": "gone",
    "PORT_STATUS_DOWN": "on no host, or not wired there: what a saga desires of it is that saga's step to wait for",
    "PORT_STATUS_ACTIVE": "wired",
    "PORT_STATUS_ERROR": "its host has said why not",
    "IMAGE_STATUS_QUEUED": "announced: its data come from a person, whenever; an upload that ends early leaves it so",
    "IMAGE_STATUS_ACTIVE": "has its data",
    "IMAGE_STATUS_REJECTED": "with the cause; may be uploaded again",
}
# States that somebody works to end: the sagas that do, by step. `tests/integration/conductor/sagas` drives each: a
# deadline that passes ends it in ERROR, or in a stuck saga, which is ERROR to its user and has an operator's attention.
ENDED_BY: Mapping[str, tuple[str, ...]] = {"INSTANCE_STATUS_BUILD": ("instance-create",)}


def test_every_state_is_one_of_rest_or_names_what_ends_it() -> None:
    states = {
        name
        for enum in (InstanceStatus, PortStatus, ImageStatus)
        for name in enum.keys()  # noqa: SIM118 - a wrapper of an enum, not a mapping
        if not name.endswith("_UNSPECIFIED")
    }
    assert AT_REST.keys() | ENDED_BY.keys() == states
    assert not AT_REST.keys() & ENDED_BY.keys()
    known = {saga.name for saga in every_saga()}
    resting = {
        "instance-start",
        "instance-stop",
        "instance-reboot",
        "instance-attach-interface",
        "instance-detach-interface",
    }  # from rest to rest: no status is theirs
    assert {"instance-create", "instance-delete"} | resting <= known
    assert {name for names in ENDED_BY.values() for name in names} <= known


@pytest.mark.parametrize("saga", every_saga(), ids=lambda saga: saga.name)
def test_each_step_of_a_saga_ends_in_bounded_time(saga: Saga[Any]) -> None:
    """A task state is that of a saga: it ends with that."""
    for step in saga.steps:
        assert timedelta() < step.deadline <= step.deadline_cap <= LONGEST_STEP, step.name


@pytest.mark.parametrize("saga", every_saga(), ids=lambda saga: saga.name)
def test_a_saga_says_what_becomes_of_its_target_when_it_is_given_up(saga: Saga[Any]) -> None:
    assert saga.abandon is not None
