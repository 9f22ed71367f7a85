from __future__ import annotations

from pathlib import Path

import pytest

from net_agent.drivers.linux.census import served_network

ID = "0197a000-0000-7000-8000-00000000aa01"
FOLDER = Path("/var/lib/cirra/state/networks")


@pytest.mark.parametrize(
    ("line", "network_id"),
    [
        (["dnsmasq", f"--pid-file={FOLDER}/{ID}/dnsmasq.pid"], ID),
        (["python", "-m", "net_agent.metadata_proxy", f"{FOLDER}/{ID}/proxy.json"], ID),
        (["dnsmasq", f"--pid-file=/elsewhere/networks/{ID}/dnsmasq.pid"], None),
        (["dnsmasq", f"--pid-file={FOLDER}/lan/dnsmasq.pid"], None),
        (["tail", str(FOLDER)], None),
        ([], None),
    ],
)
def test_a_process_serves_the_network_that_its_files_are_of(line: list[str], network_id: str | None) -> None:
    assert served_network(line, FOLDER) == network_id
