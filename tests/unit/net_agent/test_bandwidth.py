from __future__ import annotations

import pytest

from net_agent.drivers.linux.bandwidth import Bucket, Shape, detour_device, wanted_shape
from net_agent.model import Bandwidth
from tests.unit.net_agent.samples import make_port


def test_no_limit_is_no_bucket() -> None:
    assert Bucket.of(0, 100) is None
    assert wanted_shape(make_port(11)) == Shape()


@pytest.mark.parametrize(
    ("kbps", "burst_kbits", "burst"),
    [
        (100_000, 0, 125_000),  # 10 ms
        (1_000, 0, 16 * 1024),  # a few frames at least
        (1_000, 800, 100_000),
    ],
)
def test_a_burst_suits_the_rate_unless_told(kbps: int, burst_kbits: int, burst: int) -> None:
    bucket = Bucket.of(kbps, burst_kbits)
    assert bucket is not None
    assert (bucket.rate, bucket.burst) == (kbps * 125, burst)
    assert bucket.limit - burst >= 32 * 1024, "TCP needs a queue"


def test_each_way_is_its_own() -> None:
    shape = wanted_shape(make_port(11, bandwidth=Bandwidth(egress_kbps=1_000)))
    assert (shape.inward, shape.led) == (None, True)
    assert shape.outward is not None and shape.outward[0] == 125_000
    shape = wanted_shape(make_port(11, bandwidth=Bandwidth(ingress_kbps=1_000)))
    assert (shape.outward, shape.led) == (None, False)


def test_a_detour_has_a_name_that_the_kernel_takes() -> None:
    assert len(detour_device(make_port(11).port_id)) <= 15
