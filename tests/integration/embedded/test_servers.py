"""The embedded servers themselves: started, stopped, killed, frozen, outliving their starter, taken over."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import nats
import psutil
import pytest

from core.embedded.nats import EmbeddedNats
from core.embedded.postgres import EmbeddedPostgres
from core.embedded.process import ServerProcess
from core.embedded.server import EmbeddedServer, ServerFailed


@pytest.fixture
async def postgres(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    async with EmbeddedPostgres(tmp_path / "postgres") as server:
        yield server


@pytest.fixture
async def jetstream_server(tmp_path: Path) -> AsyncIterator[EmbeddedNats]:
    async with EmbeddedNats(tmp_path / "nats") as server:
        yield server


async def query(server: EmbeddedPostgres, sql: str) -> object:
    connection = await asyncpg.connect(server.dsn, timeout=60)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_postgres_is_durable_private_and_wide_enough(postgres: EmbeddedPostgres) -> None:
    assert await query(postgres, "SHOW fsync") == "on"
    assert await query(postgres, "SHOW max_connections") == "200"
    assert await query(postgres, "SHOW listen_addresses") == "127.0.0.1"
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres.dsn, password="guess")
    assert postgres.folder.stat().st_mode & 0o077 == 0


async def test_postgres_answers_on_its_socket_too(postgres: EmbeddedPostgres) -> None:
    connection = await asyncpg.connect(host=str(postgres.folder), port=postgres.port, user="cirra", database="postgres")
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


async def test_settings_reach_postgres(tmp_path: Path) -> None:
    settings = {"work_mem": "12MB"}
    async with EmbeddedPostgres(tmp_path / "postgres", durable=False, settings=settings) as server:
        assert await query(server, "SHOW work_mem") == "12MB"
        assert await query(server, "SHOW fsync") == "off"


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_postgres_keeps_what_was_committed_and_its_port(postgres: EmbeddedPostgres, end: str) -> None:
    await query(postgres, "CREATE TABLE kept AS SELECT 42 AS value")
    dsn, processes = postgres.dsn, psutil.Process(postgres.pid).children(recursive=True)
    await getattr(postgres, end)()
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert alive == []
    with pytest.raises(OSError):
        await asyncpg.connect(dsn, timeout=5)
    await postgres.start()
    assert postgres.dsn == dsn
    assert await query(postgres, "SELECT value FROM kept") == 42


async def test_postgres_without_fsync_keeps_what_was_committed_when_it_is_killed(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path / "postgres", durable=False) as server:
        connection = await asyncpg.connect(server.dsn)
        await connection.execute("CREATE TABLE kept (value int)")
        for value in range(50):
            await connection.execute("INSERT INTO kept VALUES ($1)", value)
        await server.kill()
        await server.start()
        assert await query(server, "SELECT count(*) FROM kept") == 50


async def test_a_frozen_postgres_answers_nobody_until_it_is_resumed(postgres: EmbeddedPostgres) -> None:
    connection = await asyncpg.connect(postgres.dsn)
    postgres.pause()
    answer = asyncio.create_task(connection.fetchval("SELECT 1"))
    done, _ = await asyncio.wait([answer], timeout=0.3)
    assert not done
    postgres.resume()
    async with asyncio.timeout(60):
        assert await answer == 1
    await connection.close()


async def test_a_frozen_server_can_be_stopped(postgres: EmbeddedPostgres) -> None:
    postgres.pause()
    await postgres.stop()
    with pytest.raises(ServerFailed):
        _ = postgres.pid


@pytest.mark.parametrize("end", ["restart", "kill"])
async def test_nats_keeps_its_streams_and_its_port(jetstream_server: EmbeddedNats, end: str) -> None:
    client = await nats.connect(jetstream_server.url, reconnect_time_wait=0.05)
    jetstream = client.jetstream()
    await jetstream.add_stream(name="KEPT", subjects=["kept"])
    await jetstream.publish("kept", b"x")
    await getattr(jetstream_server, end)()
    if end == "kill":
        await jetstream_server.start()
    async with asyncio.timeout(60):
        while True:
            try:
                state = (await jetstream.stream_info("KEPT")).state
                break
            except (nats.errors.Error, nats.js.errors.Error):
                await asyncio.sleep(0.05)
    assert state.messages == 1
    await client.close()


async def test_a_frozen_nats_answers_nobody_until_it_is_resumed(jetstream_server: EmbeddedNats) -> None:
    client = await nats.connect(jetstream_server.url)
    jetstream_server.pause()
    # A flush that times out breaks nats-py's read loop when its answer comes after all: one long flush instead.
    answer = asyncio.create_task(client.flush(timeout=60))
    done, _ = await asyncio.wait([answer], timeout=0.3)
    assert not done
    jetstream_server.resume()
    await answer
    await client.close()


async def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres", settings={"shared_buffers": "nonsense"})
    with pytest.raises(ServerFailed, match="shared_buffers"):
        await server.start()


async def test_a_taken_port_is_given_up(tmp_path: Path) -> None:
    async with EmbeddedNats(tmp_path / "first") as first:
        (tmp_path / "second").mkdir()
        (tmp_path / "second" / "port").write_text(str(first.port))
        async with EmbeddedNats(tmp_path / "second") as second:
            assert second.port != first.port


STARTER = """
import asyncio, sys
from pathlib import Path
from core.embedded.nats import EmbeddedNats
from core.embedded.postgres import EmbeddedPostgres

async def main():
    folder, detached = Path(sys.argv[1]), sys.argv[2] == "detached"
    for server in (EmbeddedPostgres(folder / "postgres", detached=detached),
                   EmbeddedNats(folder / "nats", detached=detached)):
        await server.start()
        print(server.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def start_and_kill_the_starter(folder: Path, mode: str) -> list[ServerProcess]:
    """Servers whose starter has just died by SIGKILL."""
    starter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(STARTER), str(folder), mode, stdout=asyncio.subprocess.PIPE
    )
    assert starter.stdout is not None
    servers = [ServerProcess.adopt(int(await starter.stdout.readline())) for _ in range(2)]
    os.kill(starter.pid, signal.SIGKILL)
    await starter.wait()
    return servers


async def test_servers_end_with_their_starter(tmp_path: Path) -> None:
    servers = await start_and_kill_the_starter(tmp_path, "attached")
    for server in servers:
        await server.wait(timeout_s=60)
        assert server.has_exited()


async def test_detached_servers_outlive_their_starter_and_are_taken_over(tmp_path: Path) -> None:
    servers = await start_and_kill_the_starter(tmp_path, "detached")
    successors: list[EmbeddedServer] = [EmbeddedPostgres(tmp_path / "postgres"), EmbeddedNats(tmp_path / "nats")]
    for process, successor in zip(servers, successors, strict=True):
        await successor.start()
        assert successor.pid == process.pid
        await successor.stop()
        assert process.has_exited()


async def test_nats_listens_where_it_is_told_and_nowhere_else(tmp_path: Path) -> None:
    async with EmbeddedNats(tmp_path / "nats", address="127.0.0.2") as server:
        assert server.url == f"nats://127.0.0.2:{server.port}"
        client = await nats.connect(server.url)
        await client.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)
