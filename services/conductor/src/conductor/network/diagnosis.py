"""What the cloud itself knows of a guest's path, before its hosts are asked; and the verdict (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cirra.agent.v1 import diagnosis_pb2 as agent
from cirra.network.v1 import diagnosis_pb2 as pb
from cirra.network.v1 import network_pb2 as network
from conductor.compute.actions import State
from conductor.compute.instance import Instance
from conductor.network.port import Port
from core.errors import CirraError, FailedPrecondition

_REMEDIES: Mapping[State, str] = {
    State.BUILD: "wait until it is built: cirra operation list",
    State.SHUTOFF: "start it: cirra server start {instance}",
    State.ERROR: "see why: cirra server show {instance}; reboot it with --hard",
    State.NOT_BUILT: "it was never built: see why with cirra server show {instance}, and delete it",
}


def require_active(instance: Instance) -> None:
    """Raises FailedPrecondition for an instance whose guest does not run: it can have no network."""
    if instance.state is State.ACTIVE:
        return
    raise FailedPrecondition(
        f"instance {instance.id} is {instance.state.value}: a guest that does not run has no network",
        reason="INSTANCE_NOT_ACTIVE",
        remedy=_REMEDIES.get(instance.state, "").format(instance=instance.id),
    )


def without_ports(instance: Instance) -> pb.Hop:
    return _hop(
        "port",
        "the instance has a port",
        pb.HOP_STATE_BROKEN,
        f"instance {instance.id} has no port: it is on no network",
        reason="NO_PORT",
        remedy="build it anew with --network",
    )


def host_of(port: Port) -> str:
    """Where its guest runs; empty: it is bound nowhere."""
    active = (host for host, binding in port.bindings.items() if binding.state == network.PORT_BINDING_STATE_ACTIVE)
    return next((host for host in active if not port.is_leaving(host)), "")


def known_hops(port: Port) -> list[pb.Hop]:
    """What the log tells of it: bound, and wired by the last report of its host."""
    host = host_of(port)
    if not host:
        seen = f"port {port.id} is bound to no host"
        remedy = "see what became of its instance: cirra timeline " + (port.device_id or str(port.id))
        return [_hop("bound", "the port is bound to a host", pb.HOP_STATE_BROKEN, seen, "PORT_NOT_BOUND", remedy)]
    bound = _hop("bound", "the port is bound to a host", pb.HOP_STATE_OK, f"port {port.id} is bound to {host}")
    return [bound, _wired(port, host)]


def _wired(port: Port, host: str) -> pb.Hop:
    title = "its host has said that it is wired"
    binding = port.bindings[host]
    if (failure := binding.failure) is not None:
        return _hop("wired", title, pb.HOP_STATE_BROKEN, failure.message, failure.reason, failure.remedy)
    if binding.wired:
        seen = f"{host} has said so of generation {binding.generation}"
        return _hop("wired", title, pb.HOP_STATE_OK, seen)
    seen = f"{host} has not said so of generation {binding.generation}, which is desired now"
    remedy = f"see whether its net-agent runs: cirra service list; its log on {host}"
    return _hop("wired", title, pb.HOP_STATE_BROKEN, seen, "PORT_NOT_WIRED", remedy)


def host_hop(host: str, error: CirraError | None) -> pb.Hop:
    """Whether the host could be asked. `error`: as `Questions.ask` raises it."""
    title = "the host is up and its net-agent answers"
    if error is None:
        return _hop("host", title, pb.HOP_STATE_OK, f"{host} has answered")
    return _hop("host", title, pb.HOP_STATE_BROKEN, error.message, error.reason, error.remedy)


def from_host(hop: agent.PathHop) -> pb.Hop:
    """As the host told it."""
    state = agent.PathHopState.Name(hop.state).removeprefix("PATH_")
    return pb.Hop(
        name=hop.name,
        title=hop.title,
        state=pb.HopState.Value(state),
        direction=pb.HOP_DIRECTION_INWARD if hop.inward else pb.HOP_DIRECTION_OUTWARD,
        observed=hop.observed,
        reason=hop.reason,
        remedy=hop.remedy,
    )


def trace_from_host(trace: agent.PathTrace, host: str, port: Port) -> pb.Trace:
    sightings = [
        pb.Sighting(device=each.device, place=each.place, probe_seen=each.probe_seen, answer_seen=each.answer_seen)
        for each in trace.sightings
    ]
    return pb.Trace(probe=trace.probe, port=str(port.id), host=host, sightings=sightings)


def verdict(hops: Iterable[pb.Hop]) -> pb.Verdict:
    """The first that is broken; else the first that is unknown; else all is well."""
    told = list(hops)
    for state in (pb.HOP_STATE_BROKEN, pb.HOP_STATE_UNKNOWN):
        if (hop := next((hop for hop in told if hop.state == state), None)) is not None:
            return pb.Verdict(state=state, hop=hop)
    return pb.Verdict(state=pb.HOP_STATE_OK)


def _hop(
    name: str, title: str, state: pb.HopState.ValueType, observed: str, reason: str = "", remedy: str = ""
) -> pb.Hop:
    return pb.Hop(
        name=name,
        title=title,
        state=state,
        direction=pb.HOP_DIRECTION_OUTWARD,
        observed=observed,
        reason=reason,
        remedy=remedy,
    )
