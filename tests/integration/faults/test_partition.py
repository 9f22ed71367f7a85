"""Partitions between network namespaces: nothing passes, in the directions named, until they end."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from core.testing.faults.partition import Chain, Namespace, partitioned

pytestmark = pytest.mark.root

ADDRESSES = ("198.18.250.1", "198.18.250.2")
V6 = ("fd00:c177::1", "fd00:c177::2")


@dataclass(frozen=True)
class Pair:
    """Two hosts on one wire. The second one counts what it hears."""

    first: Namespace
    second: Namespace

    async def reaches(self, address: str = ADDRESSES[1]) -> bool:
        """Whether the first gets an answer from there."""
        code, _ = await run(self.first, "busybox", "ping", "-c", "1", "-W", "1", address)
        return code == 0

    async def heard(self) -> int:
        """How many echo requests have arrived at the second one's kernel."""
        _, output = await run(self.second, "cat", "/proc/net/snmp")
        lines = [line.split() for line in output.splitlines() if line.startswith("Icmp:")]
        return int(dict(zip(*lines, strict=True))["InEchos"])


async def run(namespace: Namespace, *words: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *namespace.command(*words), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def checked(namespace: Namespace, *words: str) -> str:
    code, output = await run(namespace, *words)
    assert code == 0, f"{words}: {output}"
    return output


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    tag = secrets.token_hex(3)
    names = [f"cirra-fault-{tag}-{number}" for number in (1, 2)]
    here = Namespace.here()
    for name in names:
        await checked(here, "ip", "netns", "add", name)
    try:
        devices = [f"vf{tag}{number}" for number in (1, 2)]
        peer = ("type", "veth", "peer", "name", devices[1], "netns", names[1])
        await checked(Namespace(names[0]), "ip", "link", "add", devices[0], *peer)
        for name, device, address, v6 in zip(names, devices, ADDRESSES, V6, strict=True):
            host = Namespace(name)
            await checked(host, "ip", "addr", "add", f"{address}/24", "dev", device)
            await checked(host, "ip", "addr", "add", f"{v6}/64", "dev", device, "nodad")
            for each in (device, "lo"):
                await checked(host, "ip", "link", "set", each, "up")
        made = Pair(*(Namespace(name) for name in names))
        async with asyncio.timeout(60):
            while not (await made.reaches() and await made.reaches(V6[1])):
                pass  # a new link takes a moment to carry
        yield made
    finally:
        for name in names:
            await checked(here, "ip", "netns", "del", name)


async def test_a_partition_and_its_end(pair: Pair) -> None:
    assert await pair.reaches()
    async with partitioned(pair.first, ADDRESSES[1]):
        assert not await pair.reaches()
        assert await pair.reaches("127.0.0.1")
        assert await pair.reaches(V6[1]), "only the address that was named is cut off"
    assert await pair.reaches()
    assert "cirra_fault" not in await checked(pair.first, "nft", "list", "tables")


async def test_everybody_is_cut_off_of_both_protocols(pair: Pair) -> None:
    async with partitioned(pair.second):
        assert not await pair.reaches()
        assert not await pair.reaches(V6[1])
    assert await pair.reaches(V6[1])


@pytest.mark.parametrize(("chain", "arrive"), [(Chain.INPUT, 1), (Chain.OUTPUT, 0)])
async def test_a_one_way_partition(pair: Pair, chain: Chain, arrive: int) -> None:
    """Who is deaf is heard; who is mute is not."""
    before = await pair.heard()
    async with partitioned(pair.first, "198.18.250.0/24", chains=(chain,)):
        assert not await pair.reaches()
    assert await pair.heard() - before == arrive


async def test_it_ends_after_a_block_that_failed(pair: Pair) -> None:
    with pytest.raises(ValueError, match="of the test"):
        async with partitioned(pair.first):
            raise ValueError("of the test")
    assert await pair.reaches()


async def test_it_ends_by_itself_when_nobody_ends_it(pair: Pair) -> None:
    async with partitioned(pair.first, at_most_s=1):
        assert not await pair.reaches()
        async with asyncio.timeout(60):
            while not await pair.reaches():
                pass
        listed = json.loads(await checked(pair.first, "nft", "-j", "list", "tables"))
        assert len([it for it in listed["nftables"] if "table" in it]) == 1
