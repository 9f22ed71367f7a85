"""What guarding guests costs their traffic: Cirra's own bridges and tunnels beside the same ones without a rule.

    python -m bench.dataplane [--pairs N] [--seconds S]

Network namespaces stand for hosts and guests. Cirra's: the net-agent's driver wires two ports on one host, and two on
two hosts that a VXLAN joins, with all that it puts in their way: rules against spoofing, security groups, zones. Bare:
the same bridges and tunnels by `ip`, with `bridge-nf-call-*=0`. On both sides a veth is in the place of each tap, and
under its name: a tap is as fast as the program that reads it. That nothing lacks to a port is seen before and after.
Then, instead of Cirra's, a bare tunnel in which the kernel tracks connections: what guarding costs without our rules.

iperf3 sends one TCP stream, with offloads, then UDP in packets of 64 octets; what arrives is counted by the receiver's
interface. Both ways have their stream from the start, and in turns one of them is stopped (SIGSTOP) and the other goes
on: what else the machine does meets both alike. A figure is the median of all turns, a ratio that of the pairs' ratios.
It needs root.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench._wires import Ends, bare_bridge, bare_tunnel, cirra_bridge, cirra_tunnel, tracked_tunnel

BARS = {"bridge": 0.9, "vxlan": 0.9, "pps": 0.45}
PATIENCE_S = 20.0
# Of each turn, before it is counted.
SETTLING_S = 0.1
# That many packets have arrived: the stream flows.
FLOWING = 100
SMALL = ("--udp", "--bandwidth", "0", "--length", "64")

Way = AbstractAsyncContextManager[Ends]
WAYS: dict[str, tuple[Callable[[Path], Way], Callable[[], Way]]] = {
    "bridge": (cirra_bridge, bare_bridge),
    "vxlan": (cirra_tunnel, bare_tunnel),
    "vxlan_tracked": (lambda _: tracked_tunnel(), bare_tunnel),
}

Count = tuple[int, int]
"""Octets and packets that the receiver's interface took in."""


@dataclass(frozen=True, slots=True)
class Stream:
    """iperf3's, between the ends of a way; stopped unless it is its turn."""

    client: Process
    server: Process

    @classmethod
    @asynccontextmanager
    async def open(cls, ends: Ends, *options: str) -> AsyncIterator[Stream]:
        affinity = ("--affinity", "0,1") if (os.cpu_count() or 1) > 1 else ()
        always = ("--client", ends.address, "--time", "86400", "--interval", "0", *affinity)
        async with AsyncExitStack() as stack:
            serve = ends.receiver.enter("iperf3", "--server", "--one-off", "--forceflush")
            server = await asyncio.create_subprocess_exec(*serve, stdout=PIPE, stderr=DEVNULL)
            stack.push_async_callback(_ended, server)
            assert server.stdout is not None
            async with asyncio.timeout(PATIENCE_S):
                while b"Server listening" not in await server.stdout.readline():
                    if server.returncode is not None:
                        raise SystemExit("iperf3 ended before it listened")
            send = ends.sender.enter("iperf3", *always, *options)
            client = await asyncio.create_subprocess_exec(*send, stdout=DEVNULL)
            stack.push_async_callback(_ended, client)
            stream = cls(client, server)
            await stream.until_it_flows()
            stream.stop()
            yield stream

    async def until_it_flows(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.count()[1] < FLOWING:
                if self.client.returncode is not None:
                    raise SystemExit(f"iperf3 ended with {self.client.returncode}")
                await asyncio.sleep(0.05)

    def count(self) -> Count:
        """By proc_pid_net(5): of the namespace that the server is in."""
        for line in Path(f"/proc/{self.server.pid}/net/dev").read_text().splitlines():
            name, _, numbers = line.partition(":")
            if name.strip() == "eth0":
                octets, packets, *_ = map(int, numbers.split())
                return octets, packets
        raise SystemExit("a guest has lost its interface")

    def stop(self) -> None:
        self.client.send_signal(signal.SIGSTOP)

    async def turn(self, seconds: float) -> tuple[float, float]:
        """Gbit/s and 1,000 packets a second that arrive while it is the one that goes on."""
        self.client.send_signal(signal.SIGCONT)
        await asyncio.sleep(SETTLING_S)
        (octets, packets), began = self.count(), time.monotonic()
        await asyncio.sleep(seconds)
        (more_octets, more_packets), took = self.count(), time.monotonic() - began
        self.stop()
        return (more_octets - octets) * 8 / 1e9 / took, (more_packets - packets) / 1e3 / took


async def _ended(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


@dataclass(frozen=True, slots=True)
class Pairs:
    """Of each turn: Cirra's figure and the bare one."""

    unit: str
    found: list[tuple[float, float]]

    @property
    def ratio(self) -> float:
        return statistics.median(ours / bare for ours, bare in self.found)

    @property
    def ours(self) -> float:
        return round(statistics.median(ours for ours, _ in self.found), 2)

    @property
    def bare(self) -> float:
        return round(statistics.median(bare for _, bare in self.found), 2)


async def run(pairs: int, seconds: float) -> dict[str, Pairs]:
    found: dict[str, Pairs] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # dnsmasq reads its files as a user of its own.
        os.chmod(folder, 0o755)
        for way, (guarded, bare) in WAYS.items():
            own = Path(folder) / way
            own.mkdir(mode=0o755)
            async with guarded(own) as ours, bare() as theirs:
                compared = await compare((ours, theirs), pairs, seconds)
                found[way] = Pairs(f"{way}_gbps", [(our[0], bare[0]) for our, bare in compared])
                compared = await compare((ours, theirs), pairs, seconds, *SMALL)
                found[f"{way}_pps"] = Pairs(f"{way}_kpps", [(our[1], bare[1]) for our, bare in compared])
    return found


async def compare(
    ways: tuple[Ends, Ends], pairs: int, seconds: float, *options: str
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    async with Stream.open(ways[0], *options) as ours, Stream.open(ways[1], *options) as bare:
        return [(await ours.turn(seconds), await bare.turn(seconds)) for _ in range(pairs)]


def result(found: dict[str, Pairs]) -> dict[str, object]:
    ratio = {name: round(pairs.ratio, 3) for name, pairs in found.items()}
    return {
        "bench": "dataplane",
        "baseline": {pairs.unit: pairs.bare for pairs in found.values()},
        "figures": {pairs.unit: pairs.ours for pairs in found.values()},
        "ratio": ratio | {"pps": min(ratio["bridge_pps"], ratio["vxlan_pps"])},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.25, help="that are counted of each turn")
    given = parser.parse_args()
    if os.geteuid() != 0:
        print("it needs to be root", file=sys.stderr)
        return 2
    found = asyncio.run(run(given.pairs, given.seconds))
    told = result(found)
    print(json.dumps(told))
    held = found["bridge"].ratio >= BARS["bridge"] and found["vxlan"].ratio >= BARS["vxlan"]
    return 0 if held and min(found[f"{way}_pps"].ratio for way in ("bridge", "vxlan")) >= BARS["pps"] else 1


if __name__ == "__main__":
    sys.exit(main())
