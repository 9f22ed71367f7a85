"""Links: each fault is felt by both ends as it should be, and is over when its block is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from core.bus import connect
from core.testing.faults import FaultFailed
from core.testing.faults.link import TcpLink, Way
from core.testing.servers import Cell

SOON_S = 0.2


class Echo:
    """A server that answers what it is told; `heard` is all of it, `ends` how its connections ended."""

    def __init__(self) -> None:
        self.heard = b""
        self.ends: asyncio.Queue[str] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.heard += data
                writer.write(data)
                await writer.drain()
            self.ends.put_nowait("closed")
        except ConnectionError:
            self.ends.put_nowait("reset")
        finally:
            writer.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, data: bytes, timeout_s: float = 30.0) -> bytes | None:
        """The answer of the same length; None if there is none in time."""
        self.writer.write(data)
        return await self.answer(len(data), timeout_s)

    async def answer(self, size: int, timeout_s: float = 30.0) -> bytes | None:
        try:
            async with asyncio.timeout(timeout_s):
                return await self.reader.readexactly(size)
        except TimeoutError:
            return None


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def link(echo: Echo) -> AsyncIterator[TcpLink]:
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    async with TcpLink(server.sockets[0].getsockname()[1]) as link:
        yield link
    server.close()


@pytest.fixture
async def client(link: TcpLink) -> AsyncIterator[Client]:
    async with dialled(link) as opened:
        assert await opened.ask(b"hello") == b"hello"
        yield opened


@asynccontextmanager
async def dialled(link: TcpLink) -> AsyncIterator[Client]:
    opened = Client(*await asyncio.open_connection("127.0.0.1", link.port))
    try:
        yield opened
    finally:
        opened.writer.transport.abort()


async def answers(link: TcpLink, data: bytes = b"new", timeout_s: float = 30.0) -> bool:
    """Whether a new connection works."""
    async with dialled(link) as newcomer:
        try:
            return await newcomer.ask(data, timeout_s) == data
        except (ConnectionError, asyncio.IncompleteReadError):
            return False


async def test_a_link_without_faults_passes_all_on(echo: Echo, client: Client) -> None:
    large = bytes(range(256)) * 8192
    assert await client.ask(large) == large
    client.writer.write_eof()
    assert await client.reader.read() == b""
    assert await echo.ends.get() == "closed"


async def test_a_cut_connection_has_ended(link: TcpLink, client: Client, echo: Echo) -> None:
    link.cut()
    assert await client.reader.read() == b""
    assert await echo.ends.get() == "closed"
    assert await answers(link)


async def test_a_reset_is_seen_as_one_by_both_ends(link: TcpLink, client: Client, echo: Echo) -> None:
    link.reset()
    with pytest.raises(ConnectionResetError):
        await client.reader.read()
    assert await echo.ends.get() == "reset"
    assert await answers(link)


async def test_what_goes_into_a_black_hole_comes_out_at_its_end(link: TcpLink, client: Client, echo: Echo) -> None:
    with link.blackholed():
        late = await asyncio.open_connection("127.0.0.1", link.port)
        assert await client.ask(b"late", SOON_S) is None
        late[1].write(b"newcomer")
        assert echo.heard == b"hello"
        assert echo.ends.empty()
    assert await client.answer(4) == b"late"
    assert await Client(*late).answer(8) == b"newcomer"
    late[1].close()


async def test_a_black_hole_that_outlasts_the_connection(link: TcpLink, client: Client, echo: Echo) -> None:
    with link.blackholed(lost=True):
        assert await client.ask(b"lost", SOON_S) is None
    with pytest.raises(ConnectionResetError):
        await client.reader.read()
    assert await echo.ends.get() == "reset"
    assert echo.heard == b"hello"


@pytest.mark.parametrize(("way", "heard"), [(Way.TO_SERVER, b"hello"), (Way.TO_CLIENT, b"hellohalf")])
async def test_a_half_open_connection_carries_one_way(
    link: TcpLink, client: Client, echo: Echo, way: Way, heard: bytes
) -> None:
    with link.blackholed(way):
        assert await client.ask(b"half", SOON_S) is None
        assert echo.heard == heard
    assert await client.answer(4) == b"half"


async def test_the_end_of_one_side_is_held_back_too(link: TcpLink, client: Client, echo: Echo) -> None:
    with link.blackholed():
        client.writer.close()
        await asyncio.sleep(SOON_S)
        assert echo.ends.empty()
    async with asyncio.timeout(60):
        assert await echo.ends.get() in {"closed", "reset"}


async def test_a_delay_costs_time_each_way_and_no_bandwidth(link: TcpLink, client: Client) -> None:
    clock = asyncio.get_running_loop().time
    large = bytes(4_000_000)

    async def delayed() -> float:
        began = clock()
        assert await client.ask(large) == large
        return clock() - began

    with link.delayed(SOON_S):
        took_s = [await delayed() for _ in range(3)]
    assert min(took_s) >= 2 * SOON_S
    assert min(took_s) < 2 * SOON_S + 2, "a delay for each piece of it would take far longer, each time"

    async def quick() -> bool:
        began = clock()
        assert await client.ask(b"quick") == b"quick"
        return clock() - began < 2 * SOON_S

    # What it takes on a busy machine is nobody's word, but delayed it never takes less than that.
    assert any([await quick() for _ in range(10)])


async def test_a_throttled_link_is_slow(link: TcpLink, client: Client) -> None:
    clock = asyncio.get_running_loop().time
    with link.throttled(100_000, Way.TO_SERVER):
        began = clock()
        assert await client.ask(bytes(50_000)) == bytes(50_000)
        assert clock() - began >= 0.45


async def test_refused_newcomers_and_an_undisturbed_old_connection(link: TcpLink, client: Client) -> None:
    with link.refusing():
        assert not await answers(link)
        assert await client.ask(b"still") == b"still"
    assert await answers(link)


async def test_a_server_that_is_away(link: TcpLink, client: Client) -> None:
    with link.away():
        with pytest.raises(ConnectionResetError):
            await client.reader.read()
        assert not await answers(link)
    assert await answers(link)


async def test_a_fault_without_a_connection_is_an_error(link: TcpLink) -> None:
    for fault in (link.cut, link.reset):
        with pytest.raises(FaultFailed):
            fault()


async def test_a_filter_sees_and_changes_what_passes(echo: Echo) -> None:
    class Loud:
        def to_server(self, data: bytes) -> bytes | None:
            return None if data == b"stop" else data.upper()

        def to_client(self, data: bytes) -> bytes | None:
            return data + b"!"

    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    async with TcpLink(server.sockets[0].getsockname()[1], filter_of=Loud) as link, dialled(link) as client:
        client.writer.write(b"hello")
        assert await client.answer(6) == b"HELLO!"
        client.writer.write(b"stop")
        with pytest.raises(ConnectionResetError):
            await client.reader.read()
    server.close()


async def test_postgres_and_nats_are_reached_by_their_urls(cell: Cell) -> None:
    async with TcpLink(port_of(cell.dsn)) as database, TcpLink(port_of(cell.nats_url)) as broker:
        connection = await asyncpg.connect(database.url(cell.dsn))
        assert await connection.fetchval("SELECT 1") == 1
        with database.blackholed(), pytest.raises(TimeoutError):
            async with asyncio.timeout(SOON_S):
                await connection.fetchval("SELECT 1")
        connection.terminate()
        bus = await connect(broker.url(cell.nats_url), cell=cell.name, name="test", credentials=cell.credentials)
        with broker.away():
            async with asyncio.timeout(60):
                while bus.connected:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.01)
        await bus.wait_connected()
        assert broker.accepted >= 2
        await bus.close()


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])
