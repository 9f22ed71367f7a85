"""Where probes are looked for, and what was seen of one there."""

from __future__ import annotations

from collections.abc import Sequence

from cirra.agent.v1.diagnosis_pb2 import PathSighting, PathTrace
from core.ids import dhcp_namespace
from net_agent.diagnosis.hops.inward import entrance
from net_agent.diagnosis.hops.routing import way_of, way_on, way_out_of
from net_agent.diagnosis.path import GuestPath
from net_agent.diagnosis.probe.capture import Place, Watch
from net_agent.diagnosis.probe.frames import parse
from net_agent.diagnosis.probe.trail import Trail, trail
from net_agent.drivers.linux import dhcp_link
from net_agent.drivers.linux.routing import names


def places(path: GuestPath) -> list[Place]:
    """The interfaces on the way of the guest's packets, from its tap on."""
    network_id = path.network.network_id
    found = [
        Place(path.port.device, "the guest's tap"),
        Place(dhcp_link.outer_device(network_id), "the bridge's end to DHCP, DNS and metadata"),
        Place(dhcp_link.inner_device(network_id), "where these answer", dhcp_namespace(network_id)),
    ]
    if joint := path.ground.joint_of(path.network):
        found.append(Place(joint, "the way to other hosts"))
    ways = [way_of(path), way_on(path, path.own6[1]) if path.own6 is not None else None]
    for way in filter(None, ways):
        outer = names.outer_device(way.router.router_id, way.interface.subnet_id)
        found.append(Place(outer, "the bridge's end to the router"))
        found.append(Place(names.inner_device(way.interface.subnet_id), "the router", way.namespace))
    if (out := way_out_of(path)) is not None:
        found.append(Place(names.GATEWAY_DEVICE, "the router's way out", out.way.namespace))
        found.append(Place(names.EXTERNAL_DEVICE, "the end on the external network", out.namespace))
        network = path.ground.wanted.network(out.gateway.network_id)
        uplink = entrance(path) or (path.ground.joint_of(network) if network is not None else "")
        found += [Place(uplink, "the uplink of the external network")] if uplink else []
    return found


def trace_of(what: str, frame: bytes, watches: Sequence[Watch]) -> PathTrace:
    """What was seen of a probe, which is this frame."""
    asked = parse(frame)
    mark = trail(asked) if asked is not None else None
    sightings = [
        PathSighting(
            device=watch.place.device,
            place=watch.place.what if watch.listener is not None else f"{watch.place.what}: missing or down",
            probe_seen=mark is not None and Trail(mark.key, is_answer=False) in watch.seen,
            answer_seen=mark is not None and Trail(mark.key, is_answer=True) in watch.seen,
        )
        for watch in watches
    ]
    return PathTrace(probe=what, sightings=sightings)
