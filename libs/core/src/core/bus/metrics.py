"""What the bus, the relay and the projections count."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

MESSAGES = Counter("cirra_bus_messages_total", "Messages handled, by how it ended", ("consumer", "outcome"))
RELAY_POSITION = Gauge("cirra_relay_position", "Position up to which this replica knows stream EVENTS to be the log")
PROJECTED = Counter("cirra_projection_events_total", "Events applied by this replica", ("projection",))
PROJECTION_POSITION = Gauge("cirra_projection_position", "The checkpoint, as this replica knows it", ("projection",))
PROJECTION_HALTS = Counter("cirra_projection_halts_total", "Events that could not be applied", ("projection",))
