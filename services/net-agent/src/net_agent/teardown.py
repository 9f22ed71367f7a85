"""Taking away all that Cirra's networks are on this host, for `make down` and for a host that leaves the cloud."""

from __future__ import annotations

from pathlib import Path

from net_agent.drivers.linux.driver import LinuxDriver
from net_agent.drivers.linux.namespace import Namespaces
from net_agent.drivers.linux.proxy import ProxyIdentity


async def teardown(state_directory: Path, namespaces: Namespaces | None = None) -> None:
    """Removes taps, bridges, namespaces, dnsmasq and metadata proxies, and the nftables table; nothing foreign.

    By the agent's records in its state directory and by the marks that it leaves on interfaces: it needs neither the
    cloud nor the host's identity. The agent must not run. Guests lose their links. Safe to repeat.
    """
    driver = LinuxDriver(
        folder=state_directory / "networks",
        identity=_NOBODY,
        physical_networks={},
        namespaces=namespaces or Namespaces(),
    )
    try:
        await driver.remove_everything()
    finally:
        await driver.close()


# Nothing is started in its name.
_NOBODY = ProxyIdentity(
    host="", metadata_url="", certificate=Path(), private_key=Path(), authority=Path(), signing_key=Path()
)
