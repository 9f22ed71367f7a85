"""What the steps of sagas work with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from conductor.hosts.answers import Answers
from conductor.hosts.commander import Changes, Commander
from conductor.hosts.standings import Standings
from core.repository import Repository

if TYPE_CHECKING:
    # A class of the stubs' types alone: at run time there is one stub for both kinds of channel.
    from cirra.placement.v1.scheduling_pb2_grpc import SchedulingServiceAsyncStub


@dataclass(frozen=True, slots=True)
class Services:
    repository: Repository
    commander: Commander
    changes: Changes
    standings: Standings
    placement: SchedulingServiceAsyncStub
    answers: Answers = field(default_factory=Answers)
