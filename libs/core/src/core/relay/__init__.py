"""From the log to stream EVENTS, in order, so that the stream's sequence equals the log's position."""

from __future__ import annotations

from core.bus.envelope import recorded_event_from_message
from core.relay.relay import Relay

__all__ = ["Relay", "recorded_event_from_message"]
