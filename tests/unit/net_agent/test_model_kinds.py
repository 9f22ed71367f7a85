"""Every kind of object, from the message and back: what a field says is lost on no way to the disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.message import Message

from cirra.agent.v1 import desired_pb2, fabric_pb2
from core.errors import InvalidArgument
from net_agent.model import Model, from_spec, key_of, to_spec
from net_agent.model.kinds import BY_NAME
from tests.unit.net_agent.samples import DERIVED, FULL_PORT

# Nothing on a host follows from it.
NOT_KEPT = {"PortAddress.subnet_id"}


def fields_of(descriptor: Any) -> Iterator[str]:
    for field in descriptor.fields:
        yield f"{descriptor.name}.{field.name}"
        if field.message_type is not None:
            yield from fields_of(field.message_type)


def fields_set(message: Message) -> Iterator[str]:
    for field, value in message.ListFields():
        yield f"{message.DESCRIPTOR.name}.{field.name}"
        if field.message_type is not None:
            for each in [value] if isinstance(value, Message) else value:
                yield from fields_set(each)


def test_no_field_is_lost() -> None:
    specs = [to_spec(model) for model in (FULL_PORT, *DERIVED)]
    assert {spec.DESCRIPTOR.name for spec in specs} == {kind.message.DESCRIPTOR.name for kind in BY_NAME.values()}
    known = {name for spec in specs for name in fields_of(spec.DESCRIPTOR)}
    assert known - {name for spec in specs for name in fields_set(spec)} == NOT_KEPT


@pytest.mark.parametrize("model", [FULL_PORT, *DERIVED], ids=lambda model: type(model).__name__)
def test_a_specification_comes_back_as_it_was(model: Model) -> None:
    kind, _ = key_of(model)
    assert from_spec(kind, to_spec(model)) == model


@pytest.mark.parametrize(
    ("kind", "spec", "violated"),
    [
        ("peer", fabric_pb2.PeerSpec(mac_address="x\n"), {"peer.port_id", "peer.network_id", "peer.mac_address"}),
        (
            "router",
            fabric_pb2.RouterSpec(
                router_id="01920000-0000-7000-8000-00000000cc01",
                routes=[fabric_pb2.Route(destination="10.0.0.0/8", next_hop="fd00::1")],
            ),
            {"router.routes"},
        ),
        (
            "security-group",
            fabric_pb2.SecurityGroupSpec(
                group_id="01920000-0000-7000-8000-00000000cc01",
                rules=[
                    fabric_pb2.SecurityGroupRuleSpec(
                        rule_id="01920000-0000-7000-8000-00000000cc01", ip_version=4, port_min=9, port_max=8
                    )
                ],
            ),
            {"security_group.rules.port_max"},
        ),
        (
            "network",
            desired_pb2.NetworkSpec(
                network_id="01920000-0000-7000-8000-00000000cc01",
                bridge="brq1",
                kind=desired_pb2.NETWORK_KIND_VXLAN,
                segmentation_id=1 << 24,
            ),
            {"network.segmentation_id"},
        ),
        (
            "network",
            desired_pb2.NetworkSpec(
                network_id="01920000-0000-7000-8000-00000000cc01",
                bridge="brq1",
                kind=desired_pb2.NETWORK_KIND_VLAN,
                segmentation_id=4095,
            ),
            {"network.physical_network", "network.segmentation_id"},
        ),
    ],
)
def test_bad_fields_are_named(kind: str, spec: Message, violated: set[str]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        from_spec(kind, spec)
    assert {violation.field for violation in refused.value.violations} == violated
