"""What an agent implements for one kind of object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from google.protobuf.message import Message

from cirra.agent.v1.desired_pb2 import DesiredObject, Failure, Orphan
from core.errors import CirraError


class AgentFailure(CirraError):
    """The host can't make it so, and says why: an answer to the saga, not an infrastructure error.

    *retryable*: the same on this host may work later. *reschedule*: another host may do better. `facts`: what is there
    nevertheless, if that was looked at.
    """

    reason = "AGENT_FAILURE"

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        remedy: str = "",
        retryable: bool = False,
        reschedule: bool = False,
    ) -> None:
        super().__init__(message, reason=reason, retryable=retryable, remedy=remedy)
        self.reschedule = reschedule
        self.facts: Message | None = None

    def to_message(self) -> Failure:
        return Failure(
            reason=self.reason,
            message=self.message,
            remedy=self.remedy,
            retryable=self.retryable,
            reschedule=self.reschedule,
        )


class DerivedHandler(Protocol):
    """One kind of derived object (`core.agent.derived`). As a `Handler`, but that nothing is reported of what is right.

    What shall be is called again after a restart of the agent, and after a failure with each full comparison; in
    between, what changes on the host by itself is the agent's to find and mend (`core.agent.faults`).
    """

    @property
    def kind(self) -> str:
        """As in `DesiredObject.kind`."""

    async def ensure(self, desired: DesiredObject) -> None:
        """Keep it, and make it so. An `AgentFailure` is a fault, told with all others until this succeeds."""

    async def remove(self, desired: DesiredObject) -> None:
        """Forget it, and what was made of it. Absent already is success; there is no spec."""

    async def known_objects(self) -> set[str]:
        """Ids of those that it keeps: what a complete answer doesn't list is removed."""


class Handler(Protocol):
    """One kind of object. Level-triggered: it observes, compares, acts, observes again, and tells the facts.

    The same methods are called from a command, at start-up and on a timer; one at a time for an object, many objects
    at the same time. They are idempotent. An `AgentFailure` is reported as the answer. Any other error is held for one
    of the infrastructure: it is logged and the object tried again.
    """

    @property
    def kind(self) -> str:
        """The name of the fact in `Report.facts`: "domain", "port"."""

    async def establish(self, desired: DesiredObject) -> None:
        """Make what holds data, if it is not there. Comes before `ensure`, for a create alone, and never again once it
        is noted that it was done. Whoever holds no data has nothing to do."""

    async def ensure(self, desired: DesiredObject) -> Message:
        """Make it so; the facts observed afterwards (`DomainObserved`, `PortObserved`).

        It makes nothing that holds data: what is missing of that is an `AgentFailure`.
        """

    async def remove(self, desired: DesiredObject) -> Message:
        """Make it absent; the facts observed afterwards. Absent already is success; the spec may be empty."""

    async def look(self, object_id: str) -> Message:
        """The facts about an object as they are now. Touches nothing."""

    async def known_objects(self) -> set[str]:
        """Ids of the objects on this host that are Cirra's. One that the cloud never named is reported, not touched."""

    async def strangers(self) -> Sequence[Orphan]:
        """What else is in this handler's field, and no wish can name: another's guest, a network without ports.

        It is reported, not touched.
        """
