"""A machine for one cloud under test: a network namespace of its own, so that a cloud that runs here is not disturbed.

Only the network is apart: bridges, taps, rules, ports. The API is reached from the tests over a veth pair.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command did."""

    code: int
    output: str


@dataclass(frozen=True, slots=True)
class Machine:
    """`address`: where the cloud listens."""

    namespace: str
    device: str
    address: str

    @classmethod
    async def make(cls) -> Machine:
        tag = secrets.token_hex(3)
        # 198.18.0.0/15 is for tests (RFC 2544); each machine takes four addresses of it.
        block = secrets.randbelow(2**14) * 4
        here, there = (f"198.18.{(block + number) // 256}.{(block + number) % 256}" for number in (1, 2))
        machine = cls(f"cirra-e2e-{tag}", f"ve2e{tag}", there)
        await checked("ip", "netns", "add", machine.namespace)
        peer = f"{machine.device}p"
        await checked(
            "ip", "link", "add", machine.device, "type", "veth", "peer", "name", peer, "netns", machine.namespace
        )
        await checked("ip", "addr", "add", f"{here}/30", "dev", machine.device)
        await checked("ip", "link", "set", machine.device, "up")
        await machine.checked("ip", "addr", "add", f"{there}/30", "dev", peer)
        await machine.checked("ip", "link", "set", peer, "up")
        await machine.checked("ip", "link", "set", "lo", "up")
        return machine

    async def remove(self) -> None:
        # The peer first: a namespace's devices go some time after it.
        await checked("ip", "link", "del", self.device)
        await checked("ip", "netns", "del", self.namespace)

    async def run(self, *command: str, env: dict[str, str] | None = None) -> Finished:
        """Run a command on this machine. Raises TimeoutError."""
        return await run(*self.enter(*command), env=env)

    def enter(self, *command: str) -> list[str]:
        """The command that runs *command* on this machine."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", "--", *command]

    async def checked(self, *command: str, env: dict[str, str] | None = None) -> str:
        finished = await self.run(*command, env=env)
        assert finished.code == 0, f"{' '.join(command)} ended with {finished.code}:\n{finished.output}"
        return finished.output

    async def links(self) -> dict[str, Any]:
        """Interfaces by name."""
        return links_of(await self.checked("ip", "-j", "link"))

    async def nft_tables(self) -> str:
        return await self.checked("nft", "list", "tables")


async def run(*command: str, env: dict[str, str] | None = None) -> Finished:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Finished(process.returncode or 0, output.decode(errors="replace"))


async def checked(*command: str) -> str:
    finished = await run(*command)
    assert finished.code == 0, f"{' '.join(command)} ended with {finished.code}:\n{finished.output}"
    return finished.output


def links_of(output: str) -> dict[str, Any]:
    """By name, of `ip -json link`, which may say first that links changed while it read them."""
    links, _ = json.JSONDecoder().raw_decode(output[output.index("[") :])
    return {link["ifname"]: link for link in links}


def processes_of(state_dir: Path) -> list[str]:
    """Command lines of processes that name the folder, by /proc."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(state_dir) in line:
            found.append(line)
    return found
