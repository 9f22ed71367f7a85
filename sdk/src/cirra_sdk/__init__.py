"""Cirra's Python SDK: an async and a sync client of the public API, and the `cirra` command.

with Client.connect("dev") as client:
    operation = client.instances.create("web", flavor="m1.small", image="debian", networks=["lan"])
    client.operations.wait(operation)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cirra_sdk.client import AsyncClient as AsyncClient
    from cirra_sdk.errors import CirraApiError as CirraApiError
    from cirra_sdk.errors import ConfigurationError as ConfigurationError
    from cirra_sdk.errors import OperationFailed as OperationFailed
    from cirra_sdk.sync import Client as Client

# Loaded when they are asked for: `cirra --help` needs no gRPC.
_HOMES = {
    "AsyncClient": "cirra_sdk.client",
    "Client": "cirra_sdk.sync",
    "CirraApiError": "cirra_sdk.errors",
    "ConfigurationError": "cirra_sdk.errors",
    "OperationFailed": "cirra_sdk.errors",
}
__all__ = ["AsyncClient", "CirraApiError", "Client", "ConfigurationError", "OperationFailed"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
