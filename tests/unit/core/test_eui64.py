from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.eui64 import LINK_LOCAL, address_of_mac, mac_of_address


def test_the_example_of_the_rfc() -> None:
    """RFC 4291, appendix A, and RFC 2464, section 4: 34-56-78-9A-BC-DE."""
    assert address_of_mac(LINK_LOCAL, "34:56:78:9a:bc:de") == IPv6Address("fe80::3656:78ff:fe9a:bcde")


def test_of_the_subnet_s_prefix() -> None:
    prefix = IPv6Network("fd00:1:2:3::/64")
    assert str(address_of_mac(prefix, "fa:16:3e:00:00:01")) == "fd00:1:2:3:f816:3eff:fe00:1"


@given(st.binary(min_size=6, max_size=6))
def test_there_and_back(octets: bytes) -> None:
    mac = octets.hex(":")
    assert mac_of_address(address_of_mac(LINK_LOCAL, mac)) == mac


def test_an_address_that_was_made_otherwise_tells_no_mac() -> None:
    assert mac_of_address(IPv6Address("fe80::a9fe:a9fe")) is None


@pytest.mark.parametrize(("prefix", "mac"), [("fd00::/80", "fa:16:3e:00:00:01"), ("fd00::/64", "fa:16:3e:00:00")])
def test_what_has_no_such_address(prefix: str, mac: str) -> None:
    with pytest.raises(ValueError):
        address_of_mac(IPv6Network(prefix), mac)
