"""A streaming standby of an embedded Postgres, and its promotion; backups as pg_basebackup makes them."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import asyncpg

from core.embedded.postgres import EmbeddedPostgres, binaries

PATIENCE_S = 120.0


class Standby(EmbeddedPostgres):
    """Made of a backup with `standby.signal`: it follows its primary until it is promoted."""

    async def _is_ready(self, pid: int) -> bool:
        # As pg_ctl -w: a hot standby answers, and says "standby" for "ready".
        return await super()._is_ready(pid) or (
            self._pid_file_line(1) == str(pid) and self._pid_file_line(8) == "standby"
        )

    async def take_over(self, primary: EmbeddedPostgres) -> None:
        """The primary is gone for good: with what it has, the standby is found at the primary's address from now on."""
        await primary.kill()
        await self.stop()
        (self.folder / "port").write_text(str(primary.port))
        await self.start()
        await self.promote()

    async def promote(self) -> None:
        """Returns once it takes writes, on a timeline of its own."""
        connection = await asyncpg.connect(self.dsn)
        try:
            assert await connection.fetchval("SELECT pg_promote(true, 30)")
        finally:
            await connection.close()


async def base_backup(server: EmbeddedPostgres, data: Path, *, standby: bool = False) -> None:
    """A backup of the running server, in the folder; `standby`: with what lets it follow the server."""
    command = [
        str(binaries() / "pg_basebackup"),
        f"--dbname={server.dsn}",
        f"--pgdata={data}",
        "--checkpoint=fast",
        "--wal-method=stream",
        "--no-sync",
        *(["--write-recovery-conf"] if standby else []),
    ]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode(errors="replace")


async def make_standby(primary: EmbeddedPostgres, folder: Path) -> Standby:
    """One that is not started yet."""
    await asyncio.to_thread(_with_password_of, primary, folder)
    await base_backup(primary, folder / "data", standby=True)
    return Standby(folder, durable=False)


def _with_password_of(primary: EmbeddedPostgres, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    shutil.copy(primary.folder / "password", folder / "password")


async def until_caught_up(primary: EmbeddedPostgres) -> None:
    """Until its standby has replayed all that the primary has."""
    connection = await asyncpg.connect(primary.dsn)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await connection.fetchval(  # noqa: ASYNC110 - a server is asked, nobody tells
                "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn())"
            ):
                await asyncio.sleep(0.02)
    finally:
        await connection.close()
