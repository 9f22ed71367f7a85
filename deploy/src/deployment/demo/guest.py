"""Into the guest: from outside by its floating IP or, where there is no outside, from its network's DHCP namespace.

The Debian guest is entered over ssh with the injected key, the tiny one over HTTP: it runs what is posted to it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.errors import CirraError
from core.ids import dhcp_namespace
from deployment.guests import GuestKind

LOGIN_TIMEOUT_S = 300.0
COMMAND_TIMEOUT_S = 60.0
_PAUSE_S = 0.5
_SSH_OPTIONS = (
    "BatchMode=yes",
    "ConnectTimeout=5",
    "LogLevel=ERROR",
    "IdentitiesOnly=yes",
    # The guest's key is as new as the guest; who could be in between is on this host only.
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
)
# A guest's web server tells nothing of how a script ended, so the script's last line does. A subshell: it may `exit`.
# Its input is nobody's, as over ssh: the shell reads the script itself from there.
_TELLING = "{{ (\n{script}\n) </dev/null\nprintf '\\nexit status %d\\n' $?; }}"
_TOLD = re.compile(r"(?P<text>.*)\nexit status (?P<code>\d+)\n", re.DOTALL)


class GuestUnreachable(CirraError):
    """Nobody let us in; the message ends with what the last attempt said."""

    reason = "GUEST_UNREACHABLE"


@dataclass(frozen=True, slots=True)
class Output:
    """Of a command, `code` being its own exit status. None: it is not known to have ended, `error` tells why.

    (Where ssh lets nobody in, `code` is 255, as ssh(1) has it.)
    """

    code: int | None
    text: str
    error: str


class Guest(Protocol):
    @property
    def way(self) -> str:
        """How one gets in, for the reader: a command that may be typed."""

    async def run(self, script: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Output:
        """Run a shell script in the guest."""


@dataclass(frozen=True, slots=True)
class SshGuest:
    """`onto`: what leads onto the guest's host, if that is not this machine, or outside: takes a command.

    `namespace`: there; "": in none.
    """

    namespace: str
    address: str
    user: str
    key: Path
    onto: tuple[str, ...] = ()

    @property
    def way(self) -> str:
        return " ".join(self._command())

    def _command(self) -> list[str]:
        options = [part for option in _SSH_OPTIONS for part in ("-o", option)]
        return [
            *self.onto,
            *_inside(self.namespace),
            "ssh",
            *options,
            "-i",
            str(self.key),
            f"{self.user}@{self.address}",
        ]

    async def run(self, script: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Output:
        return await execute([*self._command(), script], timeout_s)


@dataclass(frozen=True, slots=True)
class HttpGuest:
    """`onto`: as above. What a script says on its standard error is among its text."""

    namespace: str
    address: str
    onto: tuple[str, ...] = ()

    @property
    def way(self) -> str:
        return " ".join([*self._command(), "SCRIPT"])

    def _command(self) -> list[str]:
        curl = ["curl", "--silent", "--show-error", "--fail", "--max-time", "20", "--noproxy", "*"]
        return [*self.onto, *_inside(self.namespace), *curl, f"http://{self.address}/cgi-bin/sh", "--data-binary"]

    async def run(self, script: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Output:
        answer = await execute([*self._command(), _TELLING.format(script=script)], timeout_s)
        if answer.code != 0:
            return Output(None, answer.text, answer.error)
        if (told := _TOLD.fullmatch(answer.text)) is None:
            return Output(None, answer.text, "its shell did not come to the script's end")
        return Output(int(told["code"]), told["text"], "")


def reach(kind: GuestKind, network_id: str, address: str, user: str, key: Path, onto: Sequence[str] = ()) -> Guest:
    """network_id: from its DHCP namespace on its host, *onto* that leads; "": from wherever *onto* leads."""
    namespace = dhcp_namespace(network_id) if network_id else ""
    if kind == "debian":
        return SshGuest(namespace, address, user, key, tuple(onto))
    return HttpGuest(namespace, address, tuple(onto))


async def wait_login(guest: Guest, timeout_s: float = LOGIN_TIMEOUT_S) -> None:
    """Returns once a command could be run. Raises GuestUnreachable."""
    last = Output(None, "", "nothing was tried")
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                last = await guest.run("true")
                if last.code == 0:
                    return
                await asyncio.sleep(_PAUSE_S)
    except TimeoutError as error:
        raise GuestUnreachable(
            f"no login within {timeout_s:g} s: {last.error or last.text or 'no answer'}",
            remedy=f"see the end of its console, and try: {guest.way}",
        ) from error


async def execute(command: Sequence[str], timeout_s: float) -> Output:
    """Run a program of this host. Raises FileNotFoundError if it isn't there."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(timeout_s):
            text, error = await process.communicate()
    except TimeoutError:
        return Output(None, "", f"no end within {timeout_s:g} s")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Output(process.returncode, text.decode(errors="replace"), error.decode(errors="replace").strip())


def _inside(namespace: str) -> list[str]:
    return ["ip", "netns", "exec", namespace] if namespace else []
