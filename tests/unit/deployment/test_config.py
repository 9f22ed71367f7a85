"""What a deployment decides once, and keeps."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from core.errors import CirraError
from deployment.config import Config, NotDeployed, configure, host_name, with_ports
from deployment.layout import Layout
from deployment.settings import DeploySettings
from deployment.testbed import plan


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "state")
    made.prepare()
    return made


def settings(**given: object) -> DeploySettings:
    return DeploySettings.model_validate(given)


def test_nothing_is_deployed_before_the_first_start(layout: Layout) -> None:
    with pytest.raises(NotDeployed):
        Config.load(layout)


def test_first_start_decides_and_later_ones_keep(layout: Layout) -> None:
    first = configure(layout, settings(address=IPv4Address("127.0.0.9")), cell="test", replicas=2)
    assert (first.cell, first.replicas, first.address) == ("test", 2, "127.0.0.9")
    assert configure(layout, settings(), cell=None, replicas=None) == first == Config.load(layout)
    assert layout.record.stat().st_mode & 0o777 == 0o600


def test_foreign_servers_stay_named(layout: Layout, tmp_path: Path) -> None:
    named = settings(postgres_dsn="postgresql://db", nats_urls=("tls://nats",), nats_keys_directory=tmp_path)
    first = configure(layout, named, cell=None, replicas=None)
    assert first.external.postgres_dsn == "postgresql://db"
    assert first.external.nats_urls == ("tls://nats",)
    assert configure(layout, settings(), cell=None, replicas=None).external == first.external


def test_another_cell_is_refused(layout: Layout) -> None:
    configure(layout, settings(), cell="one", replicas=None)
    with pytest.raises(CirraError) as refused:
        configure(layout, settings(), cell="two", replicas=None)
    assert refused.value.reason == "ANOTHER_CELL"


def test_foreign_nats_needs_its_keys(layout: Layout) -> None:
    with pytest.raises(CirraError) as refused:
        configure(layout, settings(nats_urls=("tls://nats",)), cell=None, replicas=None)
    assert refused.value.reason == "NATS_KEYS_MISSING"


def test_ports_are_kept_unless_somebody_took_them(layout: Layout) -> None:
    names = ["conductor-1", "placement-1", "metadata-1"]
    first = with_ports(configure(layout, settings(), cell=None, replicas=None), names)
    assert len(set(first.ports.values())) == len(names)
    with socket.socket() as taker:
        taker.bind((first.address, first.ports["placement-1"]))
        taker.listen()
        again = with_ports(first, names)
    assert again.ports["conductor-1"] == first.ports["conductor-1"]
    assert again.ports["placement-1"] != first.ports["placement-1"]


def test_this_machine_is_the_only_host_unless_more_are_asked_for(layout: Layout) -> None:
    alone = configure(layout, settings(), cell=None, replicas=None)
    assert (alone.hosts, alone.has_testbed, alone.address) == (1, False, "127.0.0.1")


def test_several_hosts_are_kept_and_reach_the_services(layout: Layout) -> None:
    first = configure(layout, settings(), cell=None, replicas=None, hosts=3)
    assert (first.hosts, first.address) == (3, str(plan.CONTROL.ip)), "no host reaches the machine's loopback"
    assert configure(layout, settings(), cell=None, replicas=None) == first
    named = configure(layout, settings(address=IPv4Address("192.0.2.7")), cell=None, replicas=None)
    assert named.address == "192.0.2.7"


def test_hosts_may_join_and_none_is_left_behind(layout: Layout) -> None:
    configure(layout, settings(), cell=None, replicas=None, hosts=3)
    assert configure(layout, settings(), cell=None, replicas=None, hosts=5).hosts == 5
    for fewer in (3, 1):
        with pytest.raises(CirraError) as refused:
            configure(layout, settings(), cell=None, replicas=None, hosts=fewer)
        assert refused.value.reason == "ANOTHER_SHAPE"
    assert Config.load(layout).hosts == 5


def test_a_machine_that_is_the_host_does_not_become_several(layout: Layout) -> None:
    configure(layout, settings(), cell=None, replicas=None)
    with pytest.raises(CirraError) as refused:
        configure(layout, settings(), cell=None, replicas=None, hosts=2)
    assert refused.value.reason == "ANOTHER_SHAPE"


def test_one_libvirtd_is_not_enough_for_several_hosts(layout: Layout) -> None:
    with pytest.raises(CirraError) as refused:
        configure(layout, settings(libvirt_uri="qemu:///system"), cell=None, replicas=None, hosts=2)
    assert refused.value.reason == "ONE_LIBVIRTD"


@pytest.mark.parametrize(
    ("hostname", "name"),
    [("Node_1.example.org", "node-1"), ("vm", "vm"), ("---", "host"), ("x" * 80, "x" * 63)],
)
def test_host_name_is_one_dns_label(hostname: str, name: str) -> None:
    assert host_name(hostname) == name
