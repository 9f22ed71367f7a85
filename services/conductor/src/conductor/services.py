"""What the steps of sagas work with."""

from __future__ import annotations

from dataclasses import dataclass

from cirra.placement.v1.scheduling_pb2_grpc import SchedulingServiceStub
from conductor.hosts.commander import Changes, Commander
from conductor.hosts.desired_state import DesiredState
from core.repository import Repository


@dataclass(frozen=True, slots=True)
class Services:
    repository: Repository
    commander: Commander
    changes: Changes
    desired_state: DesiredState
    placement: SchedulingServiceStub
