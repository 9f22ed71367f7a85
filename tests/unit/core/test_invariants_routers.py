"""The checker's own account of what routers, floating IPs and gateways of hosts hold."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

from google.protobuf.message import Message

from cirra.network.v1 import events_pb2 as events
from cirra.network.v1.network_pb2 import FixedIp, PortFloatingIp
from core.eventlog.types import RecordedEvent
from core.testing.invariants_holdings import Holdings, held
from core.testing.invariants_routers import floating_ip_violations

ROUTER, FLOATING, PORT, GATEWAY = (uuid4() for _ in range(4))


def recorded(kind: str, aggregate_id: UUID, *messages: Message) -> list[RecordedEvent]:
    return [
        RecordedEvent(
            position=version,
            epoch=1,
            event_id=uuid4(),
            aggregate_type=kind,
            aggregate_id=aggregate_id,
            version=version,
            type=message.DESCRIPTOR.full_name,
            schema_version=1,
            data=message.SerializeToString(),
            recorded_at=datetime(2030, 1, 1, tzinfo=UTC),
            actor="",
            request_id="",
            causation_id="",
            correlation_id="",
            traceparent="",
        )
        for version, message in enumerate(messages, 1)
    ]


PORT_MADE = events.PortCreated(
    project_id="p", network_id="n", mac_address="m1", fixed_ips=[FixedIp(subnet="s", ip_address="10.0.0.5")]
)
ROUTED = [
    *recorded("port", PORT, PORT_MADE),
    *recorded(
        "router",
        ROUTER,
        events.RouterCreated(project_id="p"),
        events.RouterInterfaceAdded(subnet_id="s", network_id="n", ip_address="10.0.0.1", mac_address="m2"),
    ),
    *recorded(
        "floating_ip",
        FLOATING,
        events.FloatingIpCreated(project_id="p", network_id="x", subnet_id="y", floating_ip_address="203.0.113.7"),
    ),
    *recorded(
        "host_gateway",
        GATEWAY,
        events.HostGatewayOpened(host="h", network_id="x", mac_address="m3"),
        events.HostGatewayAddressAllocated(host="h", network_id="x", subnet_id="y", ip_address="203.0.113.8"),
    ),
]


def test_everybody_holds_what_is_theirs() -> None:
    right, twice = held(Holdings(ROUTED))
    assert twice == []
    assert right == {
        ("address/s", "10.0.0.5"): str(PORT),
        ("mac/n", "m1"): str(PORT),
        ("address/s", "10.0.0.1"): str(ROUTER),
        ("mac/n", "m2"): str(ROUTER),
        ("address/y", "203.0.113.7"): str(FLOATING),
        ("mac/x", "m3"): str(GATEWAY),
        ("address/y", "203.0.113.8"): str(GATEWAY),
    }
    counted = Holdings(ROUTED).routed.counted
    assert counted == {ROUTER: ("routers", "p"), FLOATING: ("floating_ips", "p")}


def test_what_is_given_back_is_nobody_s() -> None:
    ends = [
        *recorded(
            "router",
            ROUTER,
            events.RouterInterfaceRemoved(subnet_id="s", network_id="n", ip_address="10.0.0.1", mac_address="m2"),
            events.RouterDeleted(project_id="p"),
        ),
        *recorded("floating_ip", FLOATING, events.FloatingIpDeleted(subnet_id="y", floating_ip_address="203.0.113.7")),
        *recorded(
            "host_gateway",
            GATEWAY,
            events.HostGatewayAddressReleased(subnet_id="y", ip_address="203.0.113.8"),
            events.HostGatewayClosed(network_id="x", mac_address="m3"),
        ),
        *recorded("port", PORT, events.PortDeleted()),
    ]
    holdings = Holdings([*ROUTED, *ends])
    assert held(holdings) == ({}, []) and holdings.routed.counted == {}


def test_what_two_hold_is_named() -> None:
    thief = recorded(
        "floating_ip", uuid4(), events.FloatingIpCreated(project_id="p", subnet_id="s", floating_ip_address="10.0.0.5")
    )
    _, [violation] = held(Holdings([*ROUTED, *thief]))
    assert violation.subject == "address/s 10.0.0.5" and str(PORT) in violation.text


def test_a_port_tells_of_what_leads_to_it_and_of_nothing_else() -> None:
    leads = recorded("floating_ip", FLOATING, events.FloatingIpAssociated(port_id=str(PORT)))
    tells = recorded("port", PORT, events.PortFloatingIpAdded(floating_ip=PortFloatingIp(floating_ip=str(FLOATING))))
    for told, wrong in ((leads, 1), (tells, 1), ([*leads, *tells], 0)):
        holdings = Holdings([*ROUTED, *told])
        assert len(list(floating_ip_violations(holdings.routed, holdings.ports))) == wrong
    gone = Holdings([*ROUTED, *leads, *recorded("port", PORT, events.PortDeleted())])
    assert list(floating_ip_violations(gone.routed, gone.ports)) == []
