"""How routers and floating IPs are asked for and shown."""

from __future__ import annotations

from cirra.compute.v1.compute_pb2 import Instance, InstanceNic, ListInstancesResponse
from cirra.network.v1 import floating_ip_pb2 as floating
from cirra.network.v1 import router_pb2 as pb
from cirra_sdk.cli.completing import _called
from tests.unit.sdk.conftest import Cirra
from tests.unit.sdk.fake_gateway import FakeGateway

ROUTER = pb.Router(
    uid="r1",
    display_name="edge",
    external_gateway=pb.ExternalGateway(network="internet", enable_snat=True),
    interfaces=[pb.RouterInterface(subnet="s1", network="n1", cidr="10.0.0.0/24", ip_address="10.0.0.1")],
    routes=[pb.StaticRoute(destination="10.9.0.0/16", next_hop="10.0.0.9")],
)


def test_a_router_is_shown_with_its_interfaces_and_routes(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("GetRouter", ROUTER)
    shown = [line.split() for line in cirra("router", "show", "edge").stdout.splitlines()]
    assert ["External", "network", "internet"] in shown and ["SNAT", "yes"] in shown
    assert ["10.0.0.1", "10.0.0.0/24", "s1", "n1"] in shown and ["10.9.0.0/16", "10.0.0.9"] in shown


def test_the_way_out_and_snat(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("CreateRouter", ROUTER)
    gateway.answers("SetRouterGateway", ROUTER)
    cirra("router", "create", "edge")
    assert not gateway.requests("CreateRouter")[0].router.HasField("external_gateway")
    cirra("router", "create", "edge", "--external-gateway", "internet")
    made = gateway.requests("CreateRouter")[1].router.external_gateway
    assert (made.network, made.enable_snat) == ("internet", True)
    cirra("router", "set-gateway", "edge", "internet", "--disable-snat")
    told = gateway.requests("SetRouterGateway")[0].external_gateway
    assert told.HasField("enable_snat") and not told.enable_snat
    wrong = cirra("router", "create", "edge", "--disable-snat")
    assert wrong.exit_code == 2 and "--external-gateway" in wrong.stderr


def test_static_routes_are_replaced_or_taken_away(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("UpdateRouter", ROUTER)
    cirra(
        *("router", "set", "edge", "--route", "destination=10.9.0.0/16,gateway=10.0.0.9"),
        *("--route", "destination=10.8.0.0/16,gateway=10.0.0.8"),
    )
    cirra("router", "set", "edge", "--no-route")
    cirra("router", "set", "edge", "--name", "border")
    several, none, renamed = gateway.requests("UpdateRouter")
    assert [route.next_hop for route in several.router.routes] == ["10.0.0.9", "10.0.0.8"]
    assert list(none.update_mask.paths) == ["routes"] and not none.router.routes
    assert list(renamed.update_mask.paths) == ["display_name"]
    for wrong in ((), ("--no-route", "--route", "destination=10.9.0.0/16,gateway=10.0.0.9"), ("--route", "nonsense")):
        assert cirra("router", "set", "edge", *wrong).exit_code == 2


def test_a_floating_ip_moves_only_when_told(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("AssociateFloatingIp", floating.FloatingIp(floating_ip_address="203.0.113.7"))
    cirra("floating-ip", "associate", "203.0.113.7", "web")
    cirra("floating-ip", "associate", "203.0.113.7", "web", "--fixed-ip-address", "10.0.0.5", "--move")
    first, second = gateway.requests("AssociateFloatingIp")
    assert (first.name, first.port, first.move) == ("203.0.113.7", "web", False)
    assert (second.fixed_ip_address, second.move) == ("10.0.0.5", True)


def test_the_shell_offers_floating_ips_by_their_addresses() -> None:
    assert _called(floating.FloatingIp(uid="f1", floating_ip_address="203.0.113.7")) == ("203.0.113.7", "f1")


def test_a_server_shows_what_leads_to_it(gateway: FakeGateway, cirra: Cirra) -> None:
    nic = InstanceNic(port="p1", fixed_ip="10.0.0.5", seen_ip="10.0.0.5", floating_ips=["203.0.113.7"])
    gateway.answers("GetInstance", Instance(uid="i1", nics=[nic]))
    header, _, row = cirra("server", "show", "i1").stdout.splitlines()[-3:]
    assert header.split()[-1] == "Floating" and row.split()[-1] == "203.0.113.7"
    gateway.answers("ListInstances", ListInstancesResponse(instances=[Instance(uid="i1", nics=[nic])]))
    assert "10.0.0.5, 203.0.113.7" in cirra("server", "list").stdout
