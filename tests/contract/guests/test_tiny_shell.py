"""Scripts over HTTP: what the tiny guest's web server runs, and what its caller learns of how they ended."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from random import randrange

import pytest
import pytest_asyncio

from deployment.demo.guest import GuestUnreachable, HttpGuest, Output, wait_login
from deployment.guests.commands import find_tool
from deployment.guests.recipe import FILES_DIR

_LISTENS_S, _PORT = 60.0, 8080


def own_loopback() -> str:
    """An address of this machine that nobody else has chosen (RFC 5735, section 3): its ports are free, and stay so."""
    return f"127.{randrange(1, 255)}.{randrange(256)}.{randrange(1, 255)}"


@pytest_asyncio.fixture
async def guest(tmp_path: Path) -> AsyncIterator[HttpGuest]:
    """As far as its shell goes: the same web server, on this machine."""
    shell = tmp_path / "cgi-bin" / "sh"
    shell.parent.mkdir()
    shutil.copy(FILES_DIR / "tiny" / "cgi-shell", shell)
    shell.chmod(0o755)
    busybox, address = find_tool("busybox"), f"{own_loopback()}:{_PORT}"
    assert busybox is not None
    server = await asyncio.create_subprocess_exec(busybox, "httpd", "-f", "-p", address, "-h", str(tmp_path))
    try:
        made = HttpGuest("", address)
        await wait_login(made, _LISTENS_S)
        yield made
    finally:
        server.kill()
        await server.wait()


@pytest.mark.parametrize(
    ("script", "code", "text"),
    [
        ("true", 0, ""),
        ("false", 1, ""),
        ("echo said; exit 7", 7, "said\n"),
        ("no-such-command 2>/dev/null", 127, ""),
        ("printf unended", 0, "unended"),
        ("echo one\necho; false # at the end", 1, "one\n\n"),
        ("cat <<END\nhere\nEND", 0, "here\n"),
        ("cat; echo read", 0, "read\n"),
        ("(exit 3); echo $?", 0, "3\n"),
    ],
)
async def test_a_scripts_own_exit_status_and_all_of_its_text(
    guest: HttpGuest, script: str, code: int, text: str
) -> None:
    assert await guest.run(script) == Output(code, text, "")


@pytest.mark.parametrize("script", ["echo 'unended", "kill -9 $$"])
async def test_a_shell_that_does_not_come_to_the_end_has_no_exit_status(guest: HttpGuest, script: str) -> None:
    ended = await guest.run(script)
    assert (ended.code, ended.error) == (None, "its shell did not come to the script's end")


async def test_where_nobody_answers_nothing_is_known() -> None:
    nobody = HttpGuest("", f"{own_loopback()}:{_PORT}")
    told = await nobody.run("true")
    assert told.code is None
    assert "connect" in told.error.lower()
    with pytest.raises(GuestUnreachable):
        await wait_login(nobody, 0.2)
