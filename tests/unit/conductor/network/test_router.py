"""Routers: what one may be on, where it may lead, and what of that is claimed."""

from __future__ import annotations

from ipaddress import ip_network
from uuid import uuid4

import pytest

from cirra.network.v1 import events_pb2
from cirra.network.v1 import router_pb2 as pb
from conductor import references
from conductor.network.router import Interface, Router, through
from core.errors import FailedPrecondition, InvalidArgument, NotFound
from core.eventlog.types import CounterAdd, CounterLimit, UniqueClaim, UniqueRelease
from tests.unit.conductor.facts import constrained, happened, refused_fields, saved

EXTERNAL = [ip_network("203.0.113.0/24")]


def make() -> Router:
    router = Router.create(uuid4(), pb.Router(display_name="edge"), project_id="p1")
    saved(router)
    return router


def interface(
    subnet: str = "s1", cidr: str = "10.0.0.0/24", ip: str = "10.0.0.1", *, gateway: bool = True
) -> Interface:
    return Interface("n1", subnet, ip_network(cidr), ip, "fa:16:3e:00:00:01", gateway)


def routed(*routes: tuple[str, str]) -> pb.Router:
    return pb.Router(routes=[pb.StaticRoute(destination=to, next_hop=hop) for to, hop in routes])


def test_a_router_begins_without_anything() -> None:
    router = Router.create(uuid4(), pb.Router(display_name="edge"), project_id="p1")
    assert router.resource_name == f"projects/p1/routers/{router.id}"
    assert constrained(router) == [CounterAdd("quota/routers", "p1", 1)]
    with pytest.raises(InvalidArgument) as refused:
        Router.create(uuid4(), pb.Router(interfaces=[pb.RouterInterface()], routes=[pb.StaticRoute()]), project_id="p")
    assert refused_fields(refused.value) == {"router.display_name", "router.interfaces", "router.routes"}


def test_it_takes_the_gateway_s_address_over_from_the_subnet_and_gives_it_back() -> None:
    router = make()
    me = str(router.id)
    router.add_interface(interface())
    assert constrained(router) == [
        CounterAdd(references.SUBNET_ROUTERS, "s1", 1),
        UniqueClaim("router-interface/s1", me, me),
        UniqueRelease("address/s1", "10.0.0.1", "s1"),
        UniqueClaim("address/s1", "10.0.0.1", me),
        UniqueClaim("mac/n1", "fa:16:3e:00:00:01", me),
        CounterLimit(references.FLOATING_IPS_THROUGH, through(me, "s1"), None),
    ]
    saved(router)
    router.remove_interface("s1")
    assert constrained(router) == [
        *references.gone(references.FLOATING_IPS_THROUGH, through(me, "s1")),
        CounterAdd(references.SUBNET_ROUTERS, "s1", -1),
        UniqueRelease("router-interface/s1", me, me),
        UniqueRelease("address/s1", "10.0.0.1", me),
        UniqueClaim("address/s1", "10.0.0.1", "s1"),
        UniqueRelease("mac/n1", "fa:16:3e:00:00:01", me),
    ]
    assert not router.interfaces


def test_another_address_was_never_the_subnet_s() -> None:
    router = make()
    router.add_interface(interface(ip="10.0.0.9", gateway=False))
    router.remove_interface("s1")
    assert not [each for each in constrained(router) if isinstance(each, UniqueRelease) and each.owner == "s1"]
    assert UniqueClaim("address/s1", "10.0.0.1", "s1") not in constrained(router)


def test_ranges_of_one_router_don_t_overlap() -> None:
    router = make()
    router.add_interface(interface())
    router.add_interface(interface("s6", "fd00::/64", "fd00::1"))
    with pytest.raises(FailedPrecondition, match=r"10\.0\.0\.0/16 overlaps 10\.0\.0\.0/24") as refused:
        router.add_interface(interface("s2", "10.0.0.0/16", "10.0.0.2"))
    assert refused.value.reason == "SUBNETS_OVERLAP" and refused.value.remedy
    with pytest.raises(FailedPrecondition, match="already, with") as refused:
        router.add_interface(interface())
    assert refused.value.reason == "SUBNET_ALREADY_ROUTED"
    with pytest.raises(FailedPrecondition, match=r"external_gateway\.network: 10\.0\.0\.0/8 overlaps"):
        router.set_gateway("ext", [ip_network("10.0.0.0/8")], enable_snat=True)
    router.set_gateway("ext", EXTERNAL, enable_snat=True)
    with pytest.raises(FailedPrecondition, match="overlaps"):
        router.add_interface(interface("s3", "203.0.113.128/25", "203.0.113.129"))


def test_the_way_out_is_set_changed_and_cleared() -> None:
    router = make()
    me = str(router.id)
    router.set_gateway("ext", EXTERNAL, enable_snat=True)
    assert constrained(router) == [
        CounterAdd(references.NETWORK_GATEWAYS, "ext", 1),
        CounterLimit(references.FLOATING_IPS_THROUGH, through(me, "ext"), None),
    ]
    saved(router)
    router.set_gateway("ext", EXTERNAL, enable_snat=True)
    assert happened(router) == []
    router.set_gateway("ext", EXTERNAL, enable_snat=False)
    assert isinstance(happened(router)[0], events_pb2.RouterSnatSet) and not constrained(router)
    assert router.gateway is not None and not router.gateway.enable_snat
    saved(router)
    router.set_gateway("other", [], enable_snat=True)
    kinds = [type(message) for message in happened(router)]
    assert kinds == [events_pb2.RouterGatewayCleared, events_pb2.RouterGatewaySet]
    assert constrained(router)[:5] == [
        *references.gone(references.FLOATING_IPS_THROUGH, through(me, "ext")),
        CounterAdd(references.NETWORK_GATEWAYS, "ext", -1),
    ]
    saved(router)
    router.clear_gateway()
    router.clear_gateway()
    assert len(happened(router)) == 1 and router.gateway is None


def test_static_routes() -> None:
    router = make()
    router.add_interface(interface())
    router.set_gateway("ext", EXTERNAL, enable_snat=True)
    saved(router)
    router.update(routed(("10.1.0.0/16", "10.0.0.9"), ("192.0.2.0/24", "203.0.113.9")), ["routes"])
    assert len(router.routes) == 2 and router.display_name == "edge"
    with pytest.raises(FailedPrecondition, match=r"10\.1\.0\.0/16 leads to 10\.0\.0\.9") as refused:
        router.remove_interface("s1")
    assert refused.value.reason == "ROUTER_INTERFACE_IN_USE" and refused.value.remedy
    with pytest.raises(FailedPrecondition) as refused:
        router.clear_gateway()
    assert refused.value.reason == "ROUTER_GATEWAY_IN_USE"
    router.update(routed(), ["routes"])
    router.remove_interface("s1")
    router.clear_gateway()


@pytest.mark.parametrize(
    ("route", "field"),
    [
        (("10.1.0.7/16", "10.0.0.9"), "router.routes[0].destination"),
        (("nonsense", "10.0.0.9"), "router.routes[0].destination"),
        (("0.0.0.0/0", "10.0.0.9"), "router.routes[0].destination"),
        (("10.1.0.0/16", "nonsense"), "router.routes[0].next_hop"),
        (("10.1.0.0/16", "10.9.0.9"), "router.routes[0].next_hop"),
        (("10.1.0.0/16", "10.0.0.1"), "router.routes[0].next_hop"),
        (("fd01::/64", "10.0.0.9"), "router.routes[0].next_hop"),
    ],
)
def test_a_route_that_can_t_be(route: tuple[str, str], field: str) -> None:
    router = make()
    router.add_interface(interface())
    router.set_gateway("ext", EXTERNAL, enable_snat=True)
    with pytest.raises(InvalidArgument) as refused:
        router.update(routed(route), ["routes"])
    assert refused_fields(refused.value) == {field}
    with pytest.raises(InvalidArgument, match="twice"):
        router.update(routed(("10.1.0.0/16", "10.0.0.9"), ("10.1.0.0/16", "10.0.0.9")), ["routes"])


def test_a_default_route_and_a_gateway_exclude_each_other() -> None:
    router = make()
    router.add_interface(interface())
    router.update(routed(("0.0.0.0/0", "10.0.0.9")), ["routes"])
    with pytest.raises(FailedPrecondition) as refused:
        router.set_gateway("ext", EXTERNAL, enable_snat=True)
    assert refused.value.reason == "DEFAULT_ROUTE_SET"


def test_a_router_goes_when_it_is_on_no_subnet() -> None:
    router = make()
    router.add_interface(interface())
    router.set_gateway("ext", EXTERNAL, enable_snat=True)
    with pytest.raises(FailedPrecondition, match="s1") as refused:
        router.delete()
    assert refused.value.reason == "ROUTER_IN_USE"
    router.remove_interface("s1")
    saved(router)
    router.delete()
    kinds = [message.DESCRIPTOR.name for message in happened(router)]
    assert kinds == ["RouterGatewayCleared", "RouterDeleted"]
    assert CounterAdd("quota/routers", "p1", -1) in constrained(router)
    with pytest.raises(NotFound):
        router.delete()
    with pytest.raises(NotFound):
        router.add_interface(interface())
