"""Ports: desired state in, what was observed afterwards out."""

from __future__ import annotations

from collections.abc import Sequence

from cirra.agent.v1.desired_pb2 import DesiredObject, Orphan, PortObserved
from core.agent.handler import AgentFailure
from core.agent.state_folder import StateFolder
from core.errors import InvalidArgument
from net_agent.drivers.base import NetworkDriver, NetworkFault
from net_agent.handlers.failures import failure_of
from net_agent.model import Port, port_from_spec


class PortHandler:
    """See `core.agent.handler.Handler`."""

    def __init__(self, driver: NetworkDriver, state: StateFolder) -> None:
        self._driver = driver
        self._state = state

    @property
    def kind(self) -> str:
        return "port"

    async def establish(self, desired: DesiredObject) -> None:
        """A port holds no data."""

    async def ensure(self, desired: DesiredObject) -> PortObserved:
        """Says wired only after having seen it so; what isn't in place is the failure's message."""
        port = _port(desired)
        await self._state.prove()
        try:
            state = await self._driver.plug(port)
        except NetworkFault as fault:
            raise failure_of(fault) from fault
        if not state.wired:
            raise AgentFailure(
                f"port {port.port_id} is not wired: {', '.join(state.lacking)}",
                reason="PORT_NOT_WIRED",
                remedy="see the net-agent's log on this host",
                retryable=True,
                reschedule=True,
            )
        return PortObserved(wired=True)

    async def remove(self, desired: DesiredObject) -> PortObserved:
        # Without its records, a port that is here might be taken for gone.
        await self._state.prove()
        try:
            await self._driver.unplug(desired.object_id)
            state = await self._driver.observe(desired.object_id)
        except NetworkFault as fault:
            raise failure_of(fault) from fault
        if state.present:
            raise AgentFailure(
                f"port {desired.object_id} is still on this host",
                reason="PORT_NOT_REMOVED",
                remedy="see the net-agent's log on this host",
                retryable=True,
            )
        return PortObserved(absent=True)

    async def look(self, object_id: str) -> PortObserved:
        """The port as it is now; touches nothing. Raises `AgentFailure`."""
        try:
            state = await self._driver.observe(object_id)
        except NetworkFault as fault:
            raise failure_of(fault) from fault
        return PortObserved(wired=state.wired, absent=not state.present)

    async def known_objects(self) -> set[str]:
        return set(await self._driver.known_ports())

    async def strangers(self) -> Sequence[Orphan]:
        """Networks of which something is here although nothing says so."""
        return [
            Orphan(kind="network", object_id=network_id, description=", ".join(parts))
            for network_id, parts in (await self._driver.portless_networks()).items()
        ]


def _port(desired: DesiredObject) -> Port:
    if not desired.HasField("port") or desired.port.port_id != desired.object_id:
        raise AgentFailure(f"{desired.object_id} comes without its port", reason="PORT_SPEC_MISSING")
    try:
        return port_from_spec(desired.port)
    except InvalidArgument as error:
        raise AgentFailure(f"port {desired.object_id}: {error}", reason="PORT_SPEC_INVALID") from error
