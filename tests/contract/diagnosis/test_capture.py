"""--capture: a probe, and its answer, followed from interface to interface."""

from __future__ import annotations

import pytest

from cirra.agent.v1.diagnosis_pb2 import PathFound
from net_agent.drivers.linux.dhcp_link import inner_device, outer_device
from tests.contract.diagnosis.site import Site, all_well, broken

pytestmark = pytest.mark.root


def seen(found: PathFound, probe: str) -> dict[str, tuple[bool, bool]]:
    """Interface → whether the probe, and the answer, passed it."""
    [trace] = [trace for trace in found.traces if trace.probe == probe]
    return {each.device: (each.probe_seen, each.answer_seen) for each in trace.sightings}


async def test_a_healthy_path_is_seen_from_end_to_end(site: Site) -> None:
    network_id = site.network.network_id
    found = await site.finds(all_well, capture=True)
    devices = [site.port.device, outer_device(network_id), inner_device(network_id)]
    assert {trace.probe for trace in found.traces} == {
        "DHCPDISCOVER",
        "SYN to 169.254.169.254:80",
        "DNS for guest-11.novalocal",
    }
    for trace in found.traces:
        assert seen(found, trace.probe) == dict.fromkeys(devices, (True, True)), trace


async def test_where_it_was_seen_last(site: Site) -> None:
    """Rules that a person added on the host drop what goes to the server."""
    network_id = site.network.network_id
    await site.command("nft", "add table bridge foreign")
    await site.command("nft", "add chain bridge foreign f { type filter hook forward priority 0; policy accept; }")
    await site.command("nft", "add rule bridge foreign f udp dport 67 drop")
    found = await site.finds(lambda found: [*broken(found)] == ["dhcp"], capture=True)
    assert seen(found, "DHCPDISCOVER") == {
        site.port.device: (True, False),
        outer_device(network_id): (False, False),
        inner_device(network_id): (False, False),
    }
    assert seen(found, "SYN to 169.254.169.254:80")[inner_device(network_id)] == (True, True)


async def test_without_being_told_nothing_is_followed(site: Site) -> None:
    assert not (await site.diagnose()).traces
