"""Ports on hosts: what each port's host was told of it. A port that shall be on a host gives the host its network."""

from __future__ import annotations

from cirra.agent.v1 import desired_pb2 as agent
from cirra.network.v1 import events_pb2 as pb
from cirra.network.v1 import network_pb2 as public
from conductor.fabric.facts import Binding, Facts, Reason
from conductor.fabric.source import Source
from core.eventlog.types import RecordedEvent

BINDINGS = Source()


@BINDINGS.on(pb.PortBindingDesired)
def _desired(facts: Facts, event: RecordedEvent, message: pb.PortBindingDesired) -> None:
    port_id = str(event.aggregate_id)
    if message.desired.absent:
        _unbind(facts, port_id, message.host)
        return
    port = agent.PortSpec()
    port.CopyFrom(message.desired.port)
    network_id = port.network.network_id
    port.ClearField("network")
    active = message.state == public.PORT_BINDING_STATE_ACTIVE
    facts.bindings.put(Binding(port_id, message.host, network_id, active, event.position, port))
    facts.reasons.put(Reason(message.host, network_id, _because(port_id)))


@BINDINGS.on(pb.PortDeleted)
def _deleted(facts: Facts, event: RecordedEvent, message: pb.PortDeleted) -> None:
    for binding in list(facts.bindings_of_port.get(str(event.aggregate_id))):
        _unbind(facts, binding.port_id, binding.host)


def _unbind(facts: Facts, port_id: str, host: str) -> None:
    binding = facts.bindings.get(port_id, host)
    if binding is not None:
        facts.bindings.remove(port_id, host)
        facts.reasons.remove(host, binding.network_id, _because(port_id))


def _because(port_id: str) -> str:
    return f"port/{port_id}"
