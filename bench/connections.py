"""What a guest's connections cost its host: the first ones, those at its limit, and a flood beyond it.

    python -m bench.connections [--samples N] [--flood N]

Two guests of one host are wired by the net-agent's driver, as in `bench.dataplane`. One sends the other single UDP
packets, each of which begins a connection of its own: while it has none, once it has as many as it may, and as many and
as fast as it can. All that becomes of a packet is done on the sender's CPU, and within its time: CPU by the thread's
clock is that of the host's rules as well, whatever else the machine does. It needs root.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench._wires import Ends, checked, cirra_bridge
from net_agent.drivers.linux.guard.groups import LIMITS
from net_agent.drivers.linux.namespace import Namespaces

BARS = {"full": 3.0, "flood": 1.0}
APART_S = 0.005
# Of those that fill the table: none is one too many a second.
FILLING_PER_S = LIMITS.new_per_second * 0.75
PATIENCE_S = 120.0
PORTS = range(1_024, 65_536)
DROP_ALL = (
    "add table ip d; add chain ip d i { type filter hook input priority 0; }; add rule ip d i udp dport 1-65535 drop"
)


class Beginner:
    """Begins connections, in the namespace that it is called in. No two are the same."""

    def __init__(self, address: str) -> None:
        self._ends = self._all(address)

    @staticmethod
    def _all(address: str) -> Iterator[tuple[socket.socket, tuple[str, int]]]:
        for source in PORTS:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.bind(("", source))
                for port in PORTS:
                    yield sender, (address, port)

    def begin(self, count: int, apart_s: float = 0.0) -> list[float]:
        """CPU of each, in microseconds."""
        found = []
        for sender, end in (next(self._ends) for _ in range(count)):
            before = time.thread_time_ns()
            sender.sendto(b"x", end)
            found.append((time.thread_time_ns() - before) / 1000)
            if apart_s:
                time.sleep(apart_s)
        return found


async def measure(ends: Ends, samples: int, flood: int) -> dict[str, float]:
    namespaces = Namespaces(threads=1)
    host, guest = ends.host.path.name, ends.sender.path.name
    try:
        await checked(*ends.host.enter("busybox", "sysctl", "-w", "net.netfilter.nf_conntrack_udp_timeout=3600"))
        await checked(*ends.receiver.enter("nft", DROP_ALL))
        begin = Beginner(ends.address).begin
        # The receiver's MAC address is known afterwards.
        await namespaces.inside(guest, partial(begin, 10, 0.1))
        count = Path("/proc/sys/net/netfilter/nf_conntrack_count")
        first = await namespaces.inside(guest, partial(begin, samples, APART_S))
        held, before = int(await namespaces.inside(host, count.read_text)), -1
        async with asyncio.timeout(PATIENCE_S):
            while held > before:
                missing = max(LIMITS.connections - held, LIMITS.parts)
                await namespaces.inside(guest, partial(begin, missing, 1 / FILLING_PER_S))
                before, held = held, int(await namespaces.inside(host, count.read_text))
        full = await namespaces.inside(guest, partial(begin, samples, APART_S))
        flooding = await namespaces.inside(guest, partial(begin, flood))
        return {
            "held": int(await namespaces.inside(host, count.read_text)),
            "first_us": round(statistics.median(first), 1),
            "full_us": round(statistics.median(full), 1),
            "flood_us": round(statistics.fmean(flooding), 1),
        }
    finally:
        namespaces.close()


async def run(samples: int, flood: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # dnsmasq reads its files as a user of its own.
        os.chmod(folder, 0o755)
        async with cirra_bridge(Path(folder)) as ends:
            return await measure(ends, samples, flood)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--flood", type=int, default=200_000)
    given = parser.parse_args()
    if os.geteuid() != 0:
        print("it needs to be root", file=sys.stderr)
        return 2
    figures = asyncio.run(run(given.samples, given.flood))
    first = figures.pop("first_us")
    ratio = {name: round(figures[f"{name}_us"] / first, 2) for name in BARS}
    print(json.dumps({"bench": "connections", "baseline": {"first_us": first}, "figures": figures, "ratio": ratio}))
    missed = [f"{name} is {ratio[name]}, the bar is {bar}" for name, bar in BARS.items() if ratio[name] > bar]
    # A few are not its own.
    if figures["held"] > LIMITS.connections * 1.01:
        missed.append(f"{figures['held']} connections are held, {LIMITS.connections} may be")
    print("\n".join(missed), end="\n" if missed else "", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
