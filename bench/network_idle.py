"""What it costs a host to see that its network is as it shall be, and to make what is not.

    python -m bench.network_idle [--networks N] [--ports-per-network N] [--peers-per-network N]

A real host in a network namespace of its own: VXLAN networks with bridges, taps, nftables, dnsmasq, metadata proxies,
and peers on hosts that don't exist. Guests are none. Figures are CPU-seconds of the agent and of the programs that it
starts and waits for: one round of healing with nothing to do, one full comparison as the conductor's answer brings it
(each port wanted anew, sixteen at a time), a round after one tap was taken off its bridge.

Baseline: reading the host's interfaces and rules once with `ip` and `nft`, as a person would.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address
from pathlib import Path

from net_agent.model import Network, Port
from tests.contract.network.fabric import make_peer, make_vxlan
from tests.contract.network.hosts import LinuxHost, make_port

AT_ONCE = 16
ROUNDS = 5
BAR_S = 2.0


async def main(arguments: argparse.Namespace) -> int:
    if os.geteuid() != 0:
        print("it needs to be root", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # dnsmasq reads its files as a user of its own.
        os.chmod(folder, 0o755)
        host = LinuxHost(Path(folder), tunnel_address=IPv4Address("127.0.0.1"))
        await host.start()
        try:
            figures = await measure(host, arguments)
            baseline = figures.pop("baseline_s")
            print(figures, file=sys.stderr, flush=True)
            result = {
                "bench": "network_idle",
                "baseline": {"read_s": baseline},
                "figures": figures,
                "ratio": {"heal": round(figures["heal_cpu_s"] / baseline, 2)},
            }
        finally:
            # The kernel takes its time with two hundred interfaces.
            await host.stop()
    print(json.dumps(result))
    return 0 if figures["full_cpu_s"] < BAR_S and figures["heal_cpu_s"] < BAR_S else 1


async def measure(host: LinuxHost, arguments: argparse.Namespace) -> dict[str, float]:
    networks = [make_vxlan(100 + number, f"10.{number}.0.0/16") for number in range(arguments.networks)]
    ports = [make_port(network, 11 + it) for it in range(arguments.ports_per_network) for network in networks]
    wire_s, wire_cpu_s = await timed(lambda: plug_all(host, ports))
    for network in networks:
        await asyncio.gather(*(keep_peer(host, network, number) for number in range(arguments.peers_per_network)))
    heals = [await timed(lambda: heal(host)) for _ in range(ROUNDS)]
    fulls = [await timed(lambda: plug_all(host, ports)) for _ in range(ROUNDS)]
    await host.command("ip", "link", "set", ports[0].device, "nomaster")
    mend_s, mend_cpu_s = await timed(lambda: heal(host))
    _, baseline = await timed(lambda: read_by_hand(host))
    return {
        "ports": len(ports),
        "wire_s": wire_s,
        "wire_cpu_s": wire_cpu_s,
        "heal_s": min(heals)[0],
        "heal_cpu_s": min(cpu for _, cpu in heals),
        "full_s": min(fulls)[0],
        "full_cpu_s": min(cpu for _, cpu in fulls),
        "mend_s": mend_s,
        "mend_cpu_s": mend_cpu_s,
        "baseline_s": baseline,
    }


async def plug_all(host: LinuxHost, ports: list[Port]) -> None:
    slots = asyncio.Semaphore(AT_ONCE)

    async def plug(port: Port) -> None:
        async with slots:
            state = await host.driver.plug(port)
            assert state.wired, state

    await asyncio.gather(*(plug(port) for port in ports))


async def keep_peer(host: LinuxHost, network: Network, number: int) -> None:
    peer = make_peer(network, 100 + number % 100)
    await host.driver.keep(peer)


async def heal(host: LinuxHost) -> None:
    assert await host.driver.heal() == {}


async def read_by_hand(host: LinuxHost) -> None:
    await host.command("ip", "-d", "-j", "link")
    await host.command("nft", "-j", "list", "ruleset")


async def timed(work: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    """Seconds by the clock, and of CPU."""
    began, cpu = time.monotonic(), cpu_s()
    await work()
    return round(time.monotonic() - began, 3), round(cpu_s() - cpu, 3)


def cpu_s() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--ports-per-network", type=int, default=10)
    parser.add_argument("--peers-per-network", type=int, default=50)
    sys.exit(asyncio.run(main(parser.parse_args())))
