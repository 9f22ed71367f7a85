"""What every test shares: fixtures of a real NATS and a real Postgres come from `core.testing`."""

from __future__ import annotations

pytest_plugins = ["core.testing.servers"]
