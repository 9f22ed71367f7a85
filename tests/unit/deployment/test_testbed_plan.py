"""What a testbed is called and where it is: pure."""

from __future__ import annotations

from pathlib import Path

from deployment.testbed import plan
from deployment.testbed.plan import MOST_HOSTS, Plan

# IFNAMSIZ of netdevice(7), with the final zero.
LONGEST_NAME = 15


def of(root: str, count: int = 3) -> Plan:
    return Plan.of(Path(root), count, str(plan.CONTROL.ip))


def test_two_deployments_share_no_name_on_the_machine() -> None:
    names = [
        {each.switch, each.outside, each.office, each.control_device, *(host.namespace for host in each.hosts)}
        for each in (of("/one"), of("/two"))
    ]
    assert not names[0] & names[1]
    assert of("/one") == of("/one"), "and one finds its own again"


def test_every_interface_has_a_name_that_the_kernel_takes() -> None:
    for host in of("/one", MOST_HOSTS).hosts:
        assert max(len(host.underlay_port), len(host.provider_port)) <= LONGEST_NAME
    assert len(of("/one").control_device) < LONGEST_NAME, "and one letter more"


def test_everybody_has_an_address_of_his_own_on_one_segment() -> None:
    hosts = of("/one", MOST_HOSTS).hosts
    addresses = [plan.CONTROL, *(host.address for host in hosts)]
    assert len({each.ip for each in addresses}) == MOST_HOSTS + 1
    assert {each.network for each in addresses} == {plan.CONTROL.network}
    assert plan.CONTROL.network.broadcast_address not in {each.ip for each in addresses}


def test_hosts_know_each_other_by_name() -> None:
    lines = of("/one").hosts_file().splitlines()
    assert "198.19.0.12 host-2" in lines and "127.0.0.1 localhost" in lines


def test_the_internet_is_not_on_the_provider_segment() -> None:
    segments = {address.network for address in plan.OUTSIDE}
    assert {address.network for address in plan.OFFICE} == segments
    for address in (*plan.DNS, *plan.WEB):
        assert not any(address.version == each.version and address.ip in each for each in segments)
