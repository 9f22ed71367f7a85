"""dnsmasq of one network: started, told of changes, adopted after a restart of the agent, ended. Blocks."""

from __future__ import annotations

import pwd
import shutil
import signal
import time
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux import dhcp_release, dns_probe, dnsmasq_config, process
from net_agent.drivers.linux.dnsmasq_config import DnsmasqFiles, NetworkPaths
from net_agent.drivers.linux.files import can_reach, limit_log, read_text, replace_text
from net_agent.drivers.linux.leases import LeaseEntry, parse, without
from net_agent.model import METADATA_ADDRESS, Network, Peer, Port

_PROGRAM = "dnsmasq"
_START_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 5.0
# Of one that runs as it should: a busy machine is no reason to call it dead.
_OBSERVE_TIMEOUT_S = 3.0
_RELEASE_TIMEOUT_S = 3.0
# The least privileged one that there is; dnsmasq reads guests' packets.
_USERS = ("dnsmasq", "nobody")


class Dnsmasq:
    """All methods run in the network's namespace, and do nothing for a network in which nothing answers."""

    def __init__(self, network: Network, paths: NetworkPaths) -> None:
        self._network = network
        self._paths = paths
        self._marker = dnsmasq_config.pid_marker(paths)

    def ensure(self, ports: Sequence[Port], peers: Sequence[Peer]) -> None:
        """It runs with this network's configuration and has read who these ports and peers are.

        Neither restarted nor signalled when nothing changed. Raises NetworkFault when it doesn't come up.
        """
        if not self._network.served_subnets:
            self.stop()
            return
        limit_log(self._paths.log)
        wanted = dnsmasq_config.files(self._network, ports, peers)
        changed = self._write(wanted)
        pid = self._pid()
        if pid is not None and process.command_line(pid) != self._command():
            self.stop()
            pid = None
        if pid is None:
            process.start(self._command(), _START_TIMEOUT_S)
        elif changed or not self._has_read(wanted, timeout_s=0.0):
            process.send(pid, self._marker, signal.SIGHUP)
        if not self._has_read(wanted, _READ_TIMEOUT_S):
            raise NetworkFault(
                f"dnsmasq of network {self._network.network_id} does not answer",
                reason="DHCP_NOT_ANSWERING",
                remedy=f"see {self._paths.log}",
            )

    def serves(self, ports: Sequence[Port], peers: Sequence[Peer]) -> bool:
        """It answers, and has read who these ports and peers are."""
        if not self._network.served_subnets:
            return True
        pid = self._pid()
        if pid is None or process.command_line(pid) != self._command():
            return False
        return self._has_read(dnsmasq_config.files(self._network, ports, peers), _OBSERVE_TIMEOUT_S)

    def stop(self) -> None:
        process.stop(self._marker, self._paths.pid)

    def release(self, unwanted: Sequence[LeaseEntry]) -> None:
        """Ends leases whose holders are gone, and waits until dnsmasq has let go of them.

        Raises NetworkFault when it doesn't. One that isn't running is spared the question: its file is corrected.
        """
        if not unwanted:
            return
        if self._pid() is None:
            gone = frozenset(entry.ip_address for entry in unwanted)
            replace_text(self._paths.leases, without(read_text(self._paths.leases), gone))
            return
        deadline = time.monotonic() + _RELEASE_TIMEOUT_S
        while remaining := [entry for entry in self.leases() if entry in unwanted]:
            if time.monotonic() > deadline:
                raise NetworkFault(
                    f"dnsmasq keeps the lease of {remaining[0].mac_address} on {remaining[0].ip_address}"
                )
            for entry in remaining:
                dhcp_release.send_release(entry, self._server_of(entry.ip_address))
            time.sleep(0.02)

    def leases(self) -> list[LeaseEntry]:
        return self.leases_in(self._paths)

    @staticmethod
    def leases_in(paths: NetworkPaths) -> list[LeaseEntry]:
        """As dnsmasq has written them last, which it does with every change."""
        return parse(read_text(paths.leases))

    @staticmethod
    def marker(paths: NetworkPaths) -> str:
        """The argument that tells this dnsmasq from all others."""
        return dnsmasq_config.pid_marker(paths)

    def _pid(self) -> int | None:
        return process.find(self._marker, self._paths.pid)

    def _command(self) -> tuple[str, ...]:
        program = shutil.which(_PROGRAM) or shutil.which(_PROGRAM, path="/usr/sbin:/sbin") or _PROGRAM
        return dnsmasq_config.command(program, self._network, self._paths, daemon_user(self._paths.folder))

    def _write(self, wanted: DnsmasqFiles) -> bool:
        changes = [
            replace_text(self._paths.hosts, wanted.hosts),
            replace_text(self._paths.options, wanted.options),
            replace_text(self._paths.names, wanted.names),
        ]
        return any(changes)

    def _has_read(self, wanted: DnsmasqFiles, timeout_s: float) -> bool:
        return dns_probe.resolves(wanted.probe_name, METADATA_ADDRESS, timeout_s)

    def _server_of(self, address: IPv4Address) -> IPv4Address:
        """Any of them, for a lease of a subnet that is no more."""
        subnets = sorted(self._network.dhcp_subnets, key=lambda subnet: address not in subnet.cidr)
        servers = (subnet.dhcp_ip for subnet in subnets)
        return next((server for server in servers if isinstance(server, IPv4Address)), METADATA_ADDRESS)


def daemon_user(folder: Path) -> str:
    """Root only where its files are out of every other user's reach (below a private home)."""
    known = {entry.pw_name for entry in pwd.getpwall()}
    if can_reach(folder):
        return next((user for user in _USERS if user in known), "root")
    return "root"
