"""NATS as Cirra uses it: subjects, streams, publishing, and the pull loop that outlives the server."""

from __future__ import annotations

from core.bus.connection import Bus, BusSubscription, connect
from core.bus.errors import BusUnavailable, ConsumerMissing, Poison
from core.bus.publish import BusRefused, publish_command, publish_report
from core.bus.pull import PullLoop, Received
from core.bus.streams import (
    CommandConsumers,
    StreamSettings,
    ensure_command_consumer,
    ensure_report_consumer,
    ensure_streams,
)
from core.bus.subjects import Subjects, consumer_name

__all__ = [
    "Bus",
    "BusRefused",
    "BusSubscription",
    "BusUnavailable",
    "CommandConsumers",
    "ConsumerMissing",
    "Poison",
    "PullLoop",
    "Received",
    "StreamSettings",
    "Subjects",
    "connect",
    "consumer_name",
    "ensure_command_consumer",
    "ensure_report_consumer",
    "ensure_streams",
    "publish_command",
    "publish_report",
]
