"""Packets that are dropped between network namespaces, and so between hosts that live in them (nft(8)).

    async with partitioned(Namespace("host-1"), "10.9.0.2"):         # host-1 and that address don't hear each other
        …
    async with partitioned(Namespace("host-1"), chains=(Chain.INPUT,)):   # host-1 is deaf, to everybody but itself

The rules lie in a table of their own, before connection tracking; the product's tables are not touched. Should nobody
be left to take them away, the kernel forgets the peers by itself after `at_most_s`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Self

from core.testing.faults.errors import FaultFailed

AT_MOST_S = 600
_EVERYBODY = ("0.0.0.0/0", "::/0")


class Chain(Enum):
    """Where packets are dropped. FORWARD: those that the namespace routes for others, as for its guests."""

    INPUT = "input"
    OUTPUT = "output"
    FORWARD = "forward"


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace by its name (ip-netns(8)), or that of a process by its number."""

    name: str | int

    @classmethod
    def here(cls) -> Self:
        """The caller's own."""
        return cls("")

    def command(self, *words: str) -> list[str]:
        """The command that runs *words* in it."""
        if self.name == "":
            return list(words)
        net = f"/proc/{self.name}/ns/net" if isinstance(self.name, int) else f"/run/netns/{self.name}"
        return ["nsenter", f"--net={net}", "--", *words]


@asynccontextmanager
async def partitioned(
    namespace: Namespace, *peers: str, chains: Sequence[Chain] = tuple(Chain), at_most_s: int = AT_MOST_S
) -> AsyncIterator[None]:
    """Drops what goes between the namespace and the peers: addresses or networks, by default everybody's.

    One chain alone makes the partition one-way. The namespace's own loopback works on. Needs root.
    """
    table = f"cirra_fault_{secrets.token_hex(4)}"
    await _nft(namespace, _ruleset(table, peers or _EVERYBODY, chains, at_most_s))
    try:
        yield
    finally:
        await _nft(namespace, f"delete table inet {table}")


def _ruleset(table: str, peers: Sequence[str], chains: Sequence[Chain], at_most_s: int) -> str:
    networks = [ipaddress.ip_network(peer, strict=False) for peer in peers]
    lines = [f"table inet {table} {{"]
    for version in (4, 6):
        elements = [f"{network} timeout {at_most_s}s" for network in networks if network.version == version]
        lines += [f"set peers{version} {{", f"type ipv{version}_addr; flags interval, timeout;"]
        lines += [f"elements = {{ {', '.join(elements)} }}"] if elements else []
        lines += ["}"]
    for chain in chains:
        lines += [
            f"chain {chain.value} {{",
            f"type filter hook {chain.value} priority -400; policy accept;",
            'meta iifname "lo" accept' if chain is not Chain.OUTPUT else 'meta oifname "lo" accept',
            "ip saddr @peers4 drop" if chain is not Chain.OUTPUT else "ip daddr @peers4 drop",
            "ip6 saddr @peers6 drop" if chain is not Chain.OUTPUT else "ip6 daddr @peers6 drop",
            *(["ip daddr @peers4 drop", "ip6 daddr @peers6 drop"] if chain is Chain.FORWARD else []),
            "}",
        ]
    return "\n".join([*lines, "}"])


async def _nft(namespace: Namespace, ruleset: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *namespace.command("nft", "-f", "-"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate(ruleset.encode())
    if process.returncode != 0:
        raise FaultFailed(f"nft: {output.decode(errors='replace')}\n{ruleset}")
