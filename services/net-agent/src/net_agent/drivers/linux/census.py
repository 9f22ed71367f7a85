"""What there is of networks on this host, by the marks that it bears, whatever the records say. Blocks."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from core.ids import bridge_device
from net_agent.drivers.linux.bridge import bridged_networks
from net_agent.drivers.linux.process import command_line

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def network_parts(folder: Path) -> Mapping[str, Sequence[str]]:
    """Network id → its bridge in this thread's namespace, and the processes whose files are in *folder*."""
    parts: defaultdict[str, list[str]] = defaultdict(list)
    for network_id in sorted(bridged_networks()):
        parts[network_id].append(f"bridge {bridge_device(network_id)}")
    for pid in sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        line = command_line(pid)
        served = served_network(line, folder)
        if served is not None:
            parts[served].append(f"process {pid} ({Path(line[0]).name})")
    return parts


def served_network(line: Iterable[str], folder: Path) -> str | None:
    """The network that a process with this command line (dnsmasq, a metadata proxy) has its files of, in *folder*."""
    own = re.compile(rf"(?:.*=)?{re.escape(str(folder))}/({_UUID})/.*")
    return next((found[1] for argument in line if (found := own.fullmatch(argument))), None)
