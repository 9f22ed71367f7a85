"""Routers, floating IPs and gateways of hosts, from their events."""

from __future__ import annotations

from uuid import uuid4

from google.protobuf.field_mask_pb2 import FieldMask

from api_gateway.events.timeline import timeline
from api_gateway.views.floating_ip import FLOATING_IP
from api_gateway.views.instance import INSTANCE, with_addresses
from api_gateway.views.network import PORT
from api_gateway.views.placement import HOST
from api_gateway.views.router import ROUTER
from cirra.agent.v1.desired_pb2 import Failure
from cirra.compute.v1 import compute_pb2 as compute
from cirra.compute.v1 import events_pb2 as compute_events
from cirra.network.v1 import events_pb2 as events
from cirra.network.v1 import floating_ip_pb2, network_pb2, router_pb2
from cirra.placement.v1.events_pb2 import HostEnrolled
from core.ids import host_aggregate_id
from tests.unit.api_gateway.history import History, row_of


def test_a_router(history: History) -> None:
    uid = uuid4()
    history.add_all(
        "router",
        uid,
        events.RouterCreated(project_id="p1", display_name="edge"),
        events.RouterInterfaceAdded(subnet_id="s1", network_id="n1", cidr="10.0.0.0/24", ip_address="10.0.0.1"),
        events.RouterInterfaceAdded(subnet_id="s2", network_id="n2", cidr="10.0.1.0/24", ip_address="10.0.1.1"),
        events.RouterGatewaySet(network_id="ext", enable_snat=True),
        events.RouterUpdated(
            routes=[router_pb2.StaticRoute(destination="10.9.0.0/16", next_hop="10.0.0.9")],
            update_mask=FieldMask(paths=["routes"]),
        ),
    )
    router = row_of(history, ROUTER, uid).resource
    assert (router.name, router.display_name) == (f"projects/p1/routers/{uid}", "edge")
    assert [each.ip_address for each in router.interfaces] == ["10.0.0.1", "10.0.1.1"]
    assert router.external_gateway.enable_snat and ROUTER.columns(router).about == "ext"
    details = [entry.detail for entry in timeline(router.name, history.events).entries]
    assert details == [
        "",
        "10.0.0.1 on 10.0.0.0/24",
        "10.0.1.1 on 10.0.1.0/24",
        "out by network ext, with SNAT",
        "10.9.0.0/16 via 10.0.0.9",
    ]
    history.add_all(
        "router",
        uid,
        events.RouterSnatSet(enable_snat=False),
        events.RouterInterfaceRemoved(subnet_id="s1"),
        events.RouterUpdated(display_name="border", update_mask=FieldMask(paths=["display_name"])),
    )
    router = row_of(history, ROUTER, uid).resource
    assert [each.subnet for each in router.interfaces] == ["s2"] and router.display_name == "border"
    assert not router.external_gateway.enable_snat and len(router.routes) == 1
    history.add_all("router", uid, events.RouterGatewayCleared(network_id="ext"), events.RouterDeleted())
    row = row_of(history, ROUTER, uid)
    assert row.deleted and not row.resource.HasField("external_gateway")


def test_a_floating_ip_is_called_by_its_address(history: History) -> None:
    uid = uuid4()
    history.add(
        "floating_ip",
        uid,
        events.FloatingIpCreated(project_id="p1", network_id="ext", subnet_id="s9", floating_ip_address="203.0.113.7"),
    )
    found = row_of(history, FLOATING_IP, uid).resource
    columns = FLOATING_IP.columns(found)
    assert found.name == f"projects/p1/floatingIps/{uid}"
    assert (columns.display_name, columns.parent, columns.about) == ("203.0.113.7", "ext", "")
    assert columns.state == "FLOATING_IP_STATUS_DOWN"
    association = events.FloatingIpAssociated(port_id="web", fixed_ip_address="10.0.0.5", router_id="r1")
    history.add("floating_ip", uid, association)
    found = row_of(history, FLOATING_IP, uid).resource
    assert (found.port, found.fixed_ip_address, found.router) == ("web", "10.0.0.5", "r1")
    assert found.status == floating_ip_pb2.FLOATING_IP_STATUS_ACTIVE and FLOATING_IP.columns(found).about == "web"
    history.add_all("floating_ip", uid, events.FloatingIpDisassociated(), events.FloatingIpDeleted())
    row = row_of(history, FLOATING_IP, uid)
    assert row.deleted and (row.resource.port, row.resource.router) == ("", "")


def test_a_port_and_its_instance_show_what_leads_to_them(history: History) -> None:
    port, uid = uuid4(), uuid4()
    history.add("instance", uid, compute_events.InstanceCreated(nics=[compute.InstanceNic(port=str(port))]))
    one = network_pb2.PortFloatingIp(floating_ip="f1", floating_ip_address="203.0.113.7")
    other = network_pb2.PortFloatingIp(floating_ip="f2", floating_ip_address="203.0.113.8")
    history.add_all(
        "port",
        port,
        events.PortCreated(network_id="n1"),
        events.PortFloatingIpAdded(floating_ip=one),
        events.PortFloatingIpAdded(floating_ip=other),
        events.PortFloatingIpRemoved(floating_ip_id="f1"),
    )
    row = row_of(history, PORT, port)
    assert [each.floating_ip_address for each in row.resource.floating_ips] == ["203.0.113.8"]
    shown = with_addresses(row_of(history, INSTANCE, uid), {str(port): row})
    assert list(shown.nics[0].floating_ips) == ["203.0.113.8"]


def test_a_host_shows_what_it_is_on_external_networks(history: History) -> None:
    host, uid = host_aggregate_id("h1"), uuid4()
    history.add("host", host, HostEnrolled(host="h1"))
    history.add_all(
        "host_gateway",
        uid,
        events.HostGatewayOpened(host="h1", network_id="ext", mac_address="fa:16:3e:00:00:01"),
        events.HostGatewayAddressRefused(
            host="h1", network_id="ext", failure=Failure(reason="EXHAUSTED", message="none is free")
        ),
    )
    [gateway] = row_of(history, HOST, host).resource.gateways
    assert (gateway.ip_address, gateway.fault) == ("", "EXHAUSTED: none is free")
    history.add(
        "host_gateway", uid, events.HostGatewayAddressAllocated(host="h1", network_id="ext", ip_address="203.0.113.3")
    )
    [gateway] = row_of(history, HOST, host).resource.gateways
    assert (gateway.ip_address, gateway.fault, gateway.mac_address) == ("203.0.113.3", "", "fa:16:3e:00:00:01")
    history.add_all(
        "host_gateway",
        uid,
        events.HostGatewayAddressReleased(host="h1", network_id="ext"),
        events.HostGatewayClosed(host="h1", network_id="ext"),
    )
    assert not row_of(history, HOST, host).resource.gateways
