"""What can go wrong on the bus. A poison message is `core.errors.Poison`."""

from __future__ import annotations

from core.errors import Poison, Unavailable

__all__ = ["BusUnavailable", "ConsumerMissing", "Poison"]


class BusUnavailable(Unavailable):
    """NATS did not acknowledge in the time given; it may have stored the message all the same."""

    reason = "BUS_UNAVAILABLE"


class ConsumerMissing(Unavailable):
    """The consumer or its stream does not exist (now): its owner makes it again."""

    reason = "CONSUMER_MISSING"
