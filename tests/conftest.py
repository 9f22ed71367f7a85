"""What every test shares: fixtures of a real NATS and a real Postgres come from `core.testing`.

Every log of the run is searched for secrets (`tests.harness.log_watch`).
"""

from __future__ import annotations

pytest_plugins = ["core.testing.servers", "tests.harness.log_watch"]
