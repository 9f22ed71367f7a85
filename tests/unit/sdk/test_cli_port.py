"""What `cirra port set` makes of a port that is there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cirra.network.v1 import network_pb2 as pb
from tests.unit.sdk.conftest import Cirra
from tests.unit.sdk.fake_gateway import FakeGateway

Asked = Callable[..., pb.UpdatePortRequest]
PRESENT = pb.Port(
    uid="p1",
    display_name="front",
    etag="e7",
    fixed_ips=[pb.FixedIp(subnet="s1", ip_address="10.0.0.5")],
    qos=pb.BandwidthLimits(ingress_kbps=1000, egress_kbps=2000),
)


@pytest.fixture
def asked(gateway: FakeGateway, cirra: Cirra) -> Asked:
    gateway.answers("GetPort", PRESENT)
    gateway.answers("UpdatePort", PRESENT)

    def ask(*options: str) -> pb.UpdatePortRequest:
        done = cirra("port", "set", "front", *options)
        assert done.exit_code == 0, done.stderr
        request: pb.UpdatePortRequest = gateway.requests("UpdatePort")[-1]
        assert request.etag == "e7", "what it had is what was read"
        return request

    return ask


def test_addresses_join_those_that_it_has(asked: Asked) -> None:
    request = asked("--fixed-ip", "ip=10.0.0.9", "--fixed-ip", "subnet=s2")
    assert list(request.update_mask.paths) == ["fixed_ips"]
    more = [pb.FixedIp(ip_address="10.0.0.9"), pb.FixedIp(subnet="s2")]
    assert list(request.port.fixed_ips) == [*PRESENT.fixed_ips, *more]
    assert list(asked("--no-fixed-ip", "--fixed-ip", "ip=10.0.0.9").port.fixed_ips) == more[:1]


def test_limits_that_are_not_given_stay(asked: Asked) -> None:
    request = asked("--egress-kbps", "0", "--ingress-burst-kbits", "800")
    assert list(request.update_mask.paths) == ["qos"]
    assert request.port.qos == pb.BandwidthLimits(ingress_kbps=1000, ingress_burst_kbits=800)
    unlimited = asked("--ingress-kbps", "0", "--egress-kbps", "0")
    assert list(unlimited.update_mask.paths) == ["qos"] and unlimited.port.qos == pb.BandwidthLimits()


def test_a_name_alone(asked: Asked) -> None:
    request = asked("--name", "back")
    assert (list(request.update_mask.paths), request.port.display_name) == (["display_name"], "back")
    assert not request.port.fixed_ips and not request.port.HasField("qos")


def test_nothing_is_no_change(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("GetPort", PRESENT)
    wrong = cirra("port", "set", "front")
    assert wrong.exit_code == 2 and "nothing is to be changed" in wrong.stderr
    assert not gateway.requests("UpdatePort")
