"""A guest under plain QEMU (TCG), without libvirt or bridges: its console, its shell, its power button."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import httpx

from deployment.guests import GuestImage

# Of a script in an emulated guest, where others want the processors, too.
_SHELL_S = 90
_RESPONDER = Path(__file__).with_name("metadata_responder.py")


class RunningGuest:
    """One QEMU whose serial console is its standard output. `console` holds the lines read so far."""

    def __init__(self, process: Process, monitor: Path) -> None:
        self._process = process
        self._monitor = monitor
        self.console: list[str] = []

    async def wait_for_line(self, marker: str, timeout_s: float) -> str:
        """The first line of the console with `marker`, read already or still to come."""
        for line in self.console:
            if marker in line:
                return line
        try:
            async with asyncio.timeout(timeout_s):
                while (line_read := await self._read_line()) is not None:
                    if marker in line_read:
                        return line_read
        except TimeoutError:
            raise AssertionError(f"no {marker!r} in {timeout_s} s on:\n{self._console_text()}") from None
        raise AssertionError(f"QEMU ended before {marker!r}:\n{self._console_text()}")

    async def wait_for_end(self, timeout_s: float) -> int:
        """QEMU's exit code, once the guest has switched itself off."""
        try:
            async with asyncio.timeout(timeout_s):
                while await self._read_line() is not None:
                    """What it says on the way down is kept in `console`."""
                return await self._process.wait()
        except TimeoutError:
            raise AssertionError(f"still running after {timeout_s} s:\n{self._console_text()}") from None

    async def press_power_button(self) -> None:
        await self._execute("system_powerdown")

    async def run_shell(self, script: str) -> str:
        """What a shell script prints inside the guest: its httpd runs it."""
        table = await self._execute("human-monitor-command", {"command-line": "info usernet"})
        forward = re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)", str(table))
        assert forward is not None, table
        async with httpx.AsyncClient(timeout=_SHELL_S, trust_env=False) as client:
            answer = await client.post(f"http://127.0.0.1:{forward.group(1)}/cgi-bin/sh", content=script)
        return answer.raise_for_status().text

    async def _execute(self, command: str, arguments: Mapping[str, str] | None = None) -> object:
        """One QMP command on a connection of its own; returns what it returns."""
        reader, writer = await asyncio.open_unix_connection(self._monitor)
        try:
            await reader.readline()  # the greeting
            result: object = None
            for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments or {}}):
                writer.write(json.dumps(request).encode() + b"\n")
                answer = json.loads(await reader.readline())
                while "event" in answer:
                    answer = json.loads(await reader.readline())
                assert "return" in answer, answer
                result = answer["return"]
            return result
        finally:
            writer.close()
            await writer.wait_closed()

    async def _read_line(self) -> str | None:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            return None
        self.console.append(line.decode(errors="replace").strip("\r\n"))
        return self.console[-1]

    def _console_text(self) -> str:
        return "\n".join(self.console)


@contextlib.asynccontextmanager
async def booted(image: GuestImage, work: Path, metadata: Mapping[str, str]) -> AsyncIterator[RunningGuest]:
    """A guest with one disk (an overlay in `work`) and one NIC, ended when the block is left.

    Its network is QEMU's own: DHCP, nothing outside, and at 169.254.169.254 the given `metadata` (path → body).
    """
    answers = work / "metadata.json"
    answers.write_text(json.dumps(dict(metadata)))
    overlay, monitor = work / "overlay.qcow2", work / "qmp.sock"
    create = await asyncio.create_subprocess_exec(
        "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image.path, overlay
    )
    assert await create.wait() == 0
    network = (
        "user,id=net,restrict=on,net=169.254.0.0/16,dhcpstart=169.254.0.15,hostfwd=tcp:127.0.0.1:0-:80,"
        f"guestfwd=tcp:169.254.169.254:80-cmd:{sys.executable} {_RESPONDER} {answers}"
    )
    process = await asyncio.create_subprocess_exec(
        "qemu-system-x86_64", "-nodefaults", "-nographic", "-machine", "pc,accel=tcg", "-m", "128",
        "-serial", "stdio", "-qmp", f"unix:{monitor},server=on,wait=off",
        "-drive", f"file={overlay},format=qcow2,if=virtio,cache=unsafe",
        "-netdev", network, "-device", "virtio-net-pci,netdev=net",
        stdin=PIPE, stdout=PIPE, stderr=STDOUT,
    )  # fmt: skip
    try:
        yield RunningGuest(process, monitor)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
