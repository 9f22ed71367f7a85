"""`cirra-api-gateway`: one replica of the front door. With `--rebuild`: builds its read model again, and ends."""

from __future__ import annotations

import sys

from api_gateway.bootstrap import SCHEMA, SERVICE, bootstrap
from api_gateway.settings import GatewaySettings
from api_gateway.views.projection import GatewayProjection
from core.rebuild import run_or_rebuild


def main() -> int:
    return run_or_rebuild(SERVICE, GatewaySettings(), bootstrap, (GatewayProjection(),), schema=SCHEMA)


if __name__ == "__main__":
    sys.exit(main())
