"""Rows as their readers get them: instances with their addresses, and nothing that is the operators' alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from api_gateway.views.instance import INSTANCE, with_addresses
from api_gateway.views.network import PORT
from api_gateway.views.reader import Reader
from api_gateway.views.view import R, Row, View
from cirra.compute.v1 import compute_pb2 as compute
from cirra.network.v1 import network_pb2 as network


async def presented(reader: Reader, view: View[R], rows: Sequence[Row[R]]) -> list[R]:
    """The resources of rows that the caller may see."""
    if view.kind == INSTANCE.kind:
        return await _instances(reader, rows)  # type: ignore[return-value, arg-type]
    hide = _HIDE.get(view.kind)
    if hide is not None and not reader.is_admin:
        for row in rows:
            hide(row.resource)
    return [row.resource for row in rows]


async def _instances(reader: Reader, rows: Sequence[Row[compute.Instance]]) -> list[compute.Instance]:
    uids = {nic.port for row in rows for nic in row.resource.nics if nic.port}
    ports = await reader.by_uid(PORT, uids) if uids else {}
    return [shown_instance(reader, row, ports) for row in rows]


def shown_instance(
    reader: Reader, row: Row[compute.Instance], ports: Mapping[str, Row[network.Port]]
) -> compute.Instance:
    """With what its ports know; its host only for an administrator."""
    instance = with_addresses(row, ports)
    if not reader.is_admin:
        instance.ClearField("host")
        if instance.HasField("fault"):
            instance.fault.ClearField("host")
    return instance


def _hide_bindings(port: network.Port) -> None:
    port.ClearField("bindings")


_HIDE: Mapping[str, Callable[[Any], None]] = {PORT.kind: _hide_bindings}
