"""Which ports lack an address that their guests make themselves."""

from __future__ import annotations

from uuid import UUID

import pytest

from cirra.network.v1 import events_pb2 as network
from cirra.network.v1 import network_pb2 as public
from tests.harness.fabric_history import VXLAN, History, uid


class PortHistory(History):
    def port(self, name: str, on: str, *subnets: str) -> None:
        created = network.PortCreated(project_id="p", network_id=uid(on), fixed_ips=_at(subnets))
        self.happens("port", UUID(uid(name)), created)

    def gets(self, name: str, *subnets: str) -> None:
        self.happens("port", UUID(uid(name)), network.PortUpdated(fixed_ips=_at(subnets)))

    def no_subnet(self, name: str, of: str) -> None:
        self.happens("network", UUID(uid(of)), network.SubnetDeleted(network_id=uid(of), subnet_id=uid(name)))

    def six(self, name: str, of: str, *, no_dhcp: bool = False, cidr: str = "fd00:1::/64") -> None:
        created = network.SubnetCreated(
            network_id=uid(of), subnet_id=uid(name), cidr=cidr, dhcp_ip="fd00:1::2", no_dhcp=no_dhcp
        )
        self.happens("network", UUID(uid(of)), created)

    @property
    def lacking(self) -> set[tuple[str, str]]:
        """Ports and subnets; the same when everything is taken in again."""
        facts, again = self.derivation.facts, self.replayed().derivation.facts
        found = {(row.port_id, row.subnet_id) for row in facts.lacking}
        assert found == {(row.port_id, row.subnet_id) for row in again.lacking}
        return found


def _at(subnets: tuple[str, ...]) -> list[public.FixedIp]:
    return [public.FixedIp(subnet=uid(name), ip_address="192.0.2.9") for name in subnets]


@pytest.fixture
def history() -> PortHistory:
    made = PortHistory()
    made.network("n", VXLAN)
    made.network("m", VXLAN)
    made.subnet("four", "n")
    made.port("old", "n", "four")
    made.port("elsewhere", "m")
    return made


def test_a_subnet_that_comes_later_leaves_its_networks_ports_without(history: PortHistory) -> None:
    assert history.lacking == set()
    history.six("six", "n")
    assert history.lacking == {(uid("old"), uid("six"))}
    history.gets("old", "four", "six")
    assert history.lacking == set()


def test_a_port_made_at_the_same_moment_is_found_too(history: PortHistory) -> None:
    history.six("six", "n")
    history.port("same-moment", "n", "four")
    history.port("later", "n", "four", "six")
    assert history.lacking == {(uid("old"), uid("six")), (uid("same-moment"), uid("six"))}


def test_addresses_that_guests_are_told_are_not_given_unasked(history: PortHistory) -> None:
    history.six("told", "n", no_dhcp=True)
    history.subnet("second", "n", "10.1.0.0/24")
    assert history.lacking == set()


def test_who_goes_lacks_nothing(history: PortHistory) -> None:
    history.six("six", "n")
    history.six("another", "n", cidr="fd00:2::/64")
    assert len(history.lacking) == 2
    history.no_subnet("six", "n")
    assert history.lacking == {(uid("old"), uid("another"))}
    history.no_port("old")
    assert history.lacking == set()
