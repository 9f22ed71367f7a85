from __future__ import annotations

from ipaddress import IPv4Address

from net_agent.drivers.linux.leases import LeaseEntry, parse, without
from net_agent.drivers.linux.service import stale_leases
from tests.unit.net_agent.samples import make_port

FILE = """1795336382 FA:16:3e:00:00:0b 10.0.0.11 guest-11 01:fa:16:3e:00:00:0b
1795336383 fa:16:3e:00:00:0c 10.0.0.12 * *
duid 00:01:00:01:2e:1f
1795336384 7 fd00::12 guest 00:01
17953363
"""
FIRST = LeaseEntry("fa:16:3e:00:00:0b", IPv4Address("10.0.0.11"), "guest-11", bytes.fromhex("01fa163e00000b"))
SECOND = LeaseEntry("fa:16:3e:00:00:0c", IPv4Address("10.0.0.12"), "", b"")


def test_ipv4_leases_are_read_and_the_rest_is_left_out() -> None:
    assert parse(FILE) == [FIRST, SECOND]
    assert parse("") == []


def test_a_lease_is_taken_out_and_every_other_line_stays() -> None:
    kept = without(FILE, frozenset({IPv4Address("10.0.0.11")}))
    assert kept == FILE.split("\n", 1)[1]
    assert without(FILE, frozenset()) == FILE


def test_a_lease_is_stale_unless_an_active_port_has_just_that_address() -> None:
    leases = [FIRST, SECOND]
    assert stale_leases(leases, [make_port(11), make_port(12)]) == []
    assert stale_leases(leases, [make_port(11)]) == [SECOND]
    assert stale_leases(leases, [make_port(11), make_port(12, active=False)]) == [SECOND]
    # The address went to another port, whose guest has not asked yet.
    assert stale_leases([FIRST], [make_port(13, addresses=(IPv4Address("10.0.0.11"),))]) == [FIRST]
