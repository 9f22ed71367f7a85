"""One per storage host: volume back ends; for now enrolment, heartbeat and inventory."""
