"""The metadata proxy of one network, seen from the agent: started, adopted, checked, ended. Blocks."""

from __future__ import annotations

import hashlib
import pwd
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core import eui64
from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux import process
from net_agent.drivers.linux.files import limit_log, read_text, replace_text
from net_agent.metadata_proxy.config import LISTEN_ADDRESS, LISTEN_PORT, ProxyConfig
from net_agent.model import Port

_MODULE = "net_agent.metadata_proxy"
_START_TIMEOUT_S = 30.0
_USER = "nobody"
_TCP_LISTEN = "0A"


@dataclass(frozen=True, slots=True)
class ProxyIdentity:
    """Who the host is to the metadata service. Paths of PEM files and of the file with the host's metadata key."""

    host: str
    metadata_url: str
    certificate: Path
    private_key: Path
    authority: Path
    signing_key: Path

    def credentials(self) -> str:
        """A digest of the files' contents; blocks."""
        files = (self.certificate, self.private_key, self.authority, self.signing_key)
        return hashlib.sha256(b"\0".join(path.read_bytes() for path in files if path.is_file())).hexdigest()


class MetadataProxyProcess:
    """All methods run in the host's namespace, but `listens`."""

    def __init__(self, identity: ProxyIdentity, network_id: str, folder: Path, namespace: Path) -> None:
        self._identity = identity
        self._config_file = folder / "metadata-proxy.json"
        self._pid_file = folder / "metadata-proxy.pid"
        self._log_file = folder / "metadata-proxy.log"
        self._guests_file = folder / "metadata-guests"
        self._config = ProxyConfig(
            host=identity.host,
            network_id=network_id,
            namespace=str(namespace),
            upstream_url=identity.metadata_url,
            certificate=str(identity.certificate),
            private_key=str(identity.private_key),
            authority=str(identity.authority),
            signing_key=str(identity.signing_key),
            pid_file=str(self._pid_file),
            log_file=str(self._log_file),
            guests_file=str(self._guests_file),
            user=_USER if any(entry.pw_name == _USER for entry in pwd.getpwall()) else "",
        )

    @property
    def argv(self) -> tuple[str, ...]:
        return (sys.executable, "-m", _MODULE, str(self._config_file))

    def ensure(self, ipv6_interface: str = "", guests: str = "") -> None:
        """It runs with this configuration; one that does is left alone. Raises NetworkFault.

        ipv6_interface: where it listens for IPv6 too; "": nowhere. guests: see `guests_of`.
        """
        limit_log(self._log_file)
        replace_text(self._guests_file, guests)
        wanted = self._wanted(ipv6_interface)
        if read_text(self._config_file) != wanted:
            self.stop()
            replace_text(self._config_file, wanted)
        if self.pid() is None:
            try:
                process.start(self.argv, _START_TIMEOUT_S)
            except NetworkFault as fault:
                raise NetworkFault(
                    fault.message, reason="METADATA_PROXY_FAILED", remedy=f"see {self._log_file}"
                ) from fault

    def runs(self, ipv6_interface: str = "", guests: str = "") -> bool:
        """With this configuration."""
        told = read_text(self._config_file) == self._wanted(ipv6_interface) and read_text(self._guests_file) == guests
        return told and self.pid() is not None

    def _wanted(self, ipv6_interface: str) -> str:
        credentials = self._identity.credentials()
        return replace(self._config, credentials=credentials, ipv6_interface=ipv6_interface).to_json()

    def pid(self) -> int | None:
        return process.find(str(self._config_file), self._pid_file)

    def stop(self) -> None:
        process.stop(str(self._config_file), self._pid_file)


def guests_of(ports: Sequence[Port]) -> str:
    """What is in the file of guests: the addresses by which they ask, with the instances that they are of."""
    lines = [
        f"{address} {port.instance_id}\n"
        for port in ports
        if port.active and port.instance_id
        for address in (*port.addresses, eui64.address_of_mac(eui64.LINK_LOCAL, port.mac_address))
    ]
    return "".join(sorted(lines))


def listens(read: Callable[[], str] = lambda: Path("/proc/thread-self/net/tcp").read_text()) -> bool:
    """Runs in the network's namespace: somebody listens on the metadata address (proc_net_tcp)."""
    octets = bytes(int(part) for part in LISTEN_ADDRESS.split("."))
    local = f"{int.from_bytes(octets, sys.byteorder):08X}:{LISTEN_PORT:04X}"
    lines = (line.split() for line in read().splitlines()[1:])
    return any(fields[1] == local and fields[3] == _TCP_LISTEN for fields in lines)
