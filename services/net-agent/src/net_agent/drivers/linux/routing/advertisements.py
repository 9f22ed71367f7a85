"""Router advertisements for the IPv6 subnets of one router (RFC 4861, 6.2), by a dnsmasq that does nothing else.

They come from the interfaces' link-local addresses, which follow from their MAC addresses and so are the same on every
host; no bridge lets them through to another one. The process outlives the agent. Blocks.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from net_agent.drivers.linux import process
from net_agent.drivers.linux.dnsmasq import daemon_user
from net_agent.drivers.linux.dnsmasq_config import names_advertised
from net_agent.drivers.linux.files import limit_log, make_folder
from net_agent.drivers.linux.routing.plan import Announcement

_PROGRAM = "dnsmasq"
_START_TIMEOUT_S = 10.0
# Between two that nobody asked for, and how long a guest keeps this router: RFC 4861, 6.2.1.
_INTERVAL_S, _LIFETIME_S = 60, 1800


class Advertisements:
    """One router's. folder: where its files are. `ensure` and `right` run in the router's namespace."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pid = folder / "advertisements.pid"
        self._log = folder / "advertisements.log"

    def ensure(self, announced: Sequence[Announcement]) -> None:
        """Raises NetworkFault when it doesn't come up."""
        if self.right(announced):
            limit_log(self._log)
            return
        self.stop()
        if announced:
            make_folder(self._folder.parent)
            make_folder(self._folder)
            process.start(self._command(announced), _START_TIMEOUT_S)

    def right(self, announced: Sequence[Announcement]) -> bool:
        """It runs and announces just these; nothing to announce: it doesn't run."""
        if not announced and not self._folder.exists():
            return True
        pid = process.find(self._marker, self._pid)
        if not announced:
            return pid is None
        return pid is not None and process.command_line(pid) == self._command(announced)

    def stop(self) -> None:
        """Absent is success; its files go too."""
        if self._folder.exists():
            process.stop(self._marker, self._pid)
            shutil.rmtree(self._folder)

    @property
    def _marker(self) -> str:
        return f"--pid-file={self._pid}"

    def _command(self, announced: Sequence[Announcement]) -> tuple[str, ...]:
        program = shutil.which(_PROGRAM) or shutil.which(_PROGRAM, path="/usr/sbin:/sbin") or _PROGRAM
        options = [
            "--conf-file=/dev/null", "--port=0", "--no-hosts", "--no-resolv", "--no-ping", "--enable-ra",
            "--bind-dynamic", "--except-interface=lo", f"--user={daemon_user(self._folder)}", self._marker,
            f"--log-facility={self._log}", f"--dhcp-leasefile={self._folder / 'advertisements.leases'}",
        ]  # fmt: skip
        for each in announced:
            options += [
                f"--interface={each.device}",
                f"--dhcp-range={each.prefix.network_address},ra-only,{each.prefix.prefixlen}",
                f"--ra-param={each.device},mtu:{each.mtu},{_INTERVAL_S},{_LIFETIME_S}",
                *names_advertised(each.device, each.resolvers.addresses, each.resolvers.domain),
            ]
        return (program, *options)
