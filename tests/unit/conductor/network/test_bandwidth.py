from __future__ import annotations

from uuid import uuid4

import pytest

from cirra.network.v1 import network_pb2 as pb
from conductor.compute.domain import port_wish
from conductor.fields import Fields
from conductor.network.bandwidth import check_bandwidth
from conductor.network.network import Network
from conductor.network.port import Port
from core.errors import InvalidArgument
from tests.unit.conductor.facts import refused_fields


def refused(**limits: int) -> set[str]:
    fields = Fields("port.")
    check_bandwidth(fields, "qos", pb.BandwidthLimits(**limits))
    try:
        fields.check()
    except InvalidArgument as error:
        return refused_fields(error)
    return set()


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({}, ""),
        ({"ingress_kbps": 10_000, "egress_kbps": 64, "egress_burst_kbits": 12}, ""),
        ({"ingress_kbps": 63}, "ingress_kbps"),
        ({"egress_kbps": -1}, "egress_kbps"),
        ({"egress_kbps": 100_000_001}, "egress_kbps"),
        ({"ingress_burst_kbits": 100}, "ingress_burst_kbits"),
        ({"egress_kbps": 1_000, "egress_burst_kbits": 11}, "egress_burst_kbits"),
    ],
)
def test_what_may_be_asked(limits: dict[str, int], field: str) -> None:
    assert refused(**limits) == ({f"port.qos.{field}"} if field else set())


def test_its_host_is_told() -> None:
    network = Network.create(uuid4(), pb.Network(display_name="n"), project_id="p")
    limits = pb.BandwidthLimits(ingress_kbps=10_000, egress_kbps=5_000, egress_burst_kbits=100)
    port = Port.create(
        uuid4(),
        project_id="p",
        network_id=str(network.id),
        mac_address="fa:16:3e:00:00:01",
        fixed_ips=[],
        device_id="i",
        qos=limits,
    )
    told = port_wish("h", port, network, "guest", "i").port.bandwidth
    assert (told.ingress_kbps, told.egress_kbps, told.egress_burst_kbits) == (10_000, 5_000, 100)
