"""`backup` and `restore`: what can't be made again. The event log first, then the blobs that it names, then the keys.

What hosts have is not in it, nor is NATS: streams are derived. See docs/operations.md.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from core.embedded.postgres import binaries
from core.errors import CirraError
from deployment.config import Config
from deployment.layout import Layout
from deployment.lock import is_locked
from deployment.servers import own_servers

_POSTGRES = "postgres"
_TIMEOUT_S = 3600.0


class BackupFailed(CirraError):
    """Nothing, or not all, was copied; the message says why."""

    reason = "BACKUP_FAILED"


async def back_up(layout: Layout, config: Config, folder: Path, tell: Callable[[str], None]) -> None:
    """While Cirra runs. *folder* must not exist. Raises BackupFailed."""
    server = own_servers(layout, config).postgres
    if server is None:
        raise BackupFailed("Postgres is not ours", remedy="back it up with its own tools, and `blobs/` after it")
    if await asyncio.to_thread(folder.exists):
        raise BackupFailed(f"{folder} exists", remedy="name another folder")
    await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True)
    tell("copying Postgres")
    await _base_backup(server.dsn, folder / _POSTGRES)
    for part in _others(layout):
        tell(f"copying {part.name}")
        await asyncio.to_thread(_copy, part, folder / part.name)


async def restore(layout: Layout, config: Config, folder: Path, tell: Callable[[str], None]) -> None:
    """While nothing runs but guests. What was there before is kept beside it. Raises BackupFailed.

    Blobs that were made since the backup stay: they are named by their content.
    """
    if is_locked(layout):
        raise BackupFailed("Cirra runs", remedy="first: make down, with ARGS=--keep-guests if guests shall go on")
    server = own_servers(layout, config).postgres
    if server is None:
        raise BackupFailed("Postgres is not ours", remedy="restore it with its own tools")
    if not await asyncio.to_thread((folder / _POSTGRES / "PG_VERSION").exists):
        raise BackupFailed(f"{folder} holds no backup")
    former = server.data.with_name(f"{server.data.name}.before-{int(time.time())}")
    if await asyncio.to_thread(server.data.exists):
        await asyncio.to_thread(server.data.rename, former)
        tell(f"what was there is in {former}")
    await asyncio.to_thread(shutil.copytree, folder / _POSTGRES, server.data)
    await asyncio.to_thread(shutil.copytree, folder / layout.blobs.name, layout.blobs, dirs_exist_ok=True)
    tell("restored; the keys are left as they are")


def _others(layout: Layout) -> list[Path]:
    """After Postgres: an image that the log names must be in the copy."""
    keys = [layout.secrets, layout.authority, layout.nats_keys, layout.postgres / "password"]
    return [layout.blobs, *keys, layout.record]


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.exists():
        shutil.copy2(source, target)


async def _base_backup(dsn: str, data: Path) -> None:
    """pg_basebackup(1), with the WAL that makes it consistent."""
    process = await asyncio.create_subprocess_exec(
        str(binaries() / "pg_basebackup"),
        f"--dbname={dsn}",
        f"--pgdata={data}",
        "--checkpoint=fast",
        "--wal-method=stream",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(_TIMEOUT_S):
        output, _ = await process.communicate()
    if process.returncode:
        raise BackupFailed(f"pg_basebackup: {output.decode(errors='replace').strip()}")
