"""pytest fixtures: one real Postgres and one real NATS per test run, a *cell* of its own per test.

Servers start when a test first asks for one (about a second) and end with the run. Tests are isolated by
name: every stream, subject and schema begins with the cell's name, and what a test leaves behind is
dropped after it.

    async def test_reports(cell: Cell) -> None:
        conductor = await cell.connect(Identity.service("conductor"))
        agent = await cell.connect(Identity.host("h1"))

A test that kills, pauses or restarts a server starts its own: ``EmbeddedNats(tmp_path / "nats", keys=…)``.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client

from core.embedded.nats import EmbeddedNats
from core.embedded.postgres import EmbeddedPostgres
from core.natsauth.keys import AccountKeys, NatsKeys, Nkey, NkeyKind
from core.natsauth.permissions import Permissions, identity_permissions, inbox_prefix
from core.natsauth.tokens import format_credentials, user_token
from core.pki.authority import Authority
from core.pki.files import write_private
from core.pki.identity import Identity

OnError = Callable[[Exception], Awaitable[None]]

# A busy machine takes its time.
_CONNECT_TIMEOUT_S = 30
_JETSTREAM_TIMEOUT_S = 60.0
_SCHEMAS_OF_CELL = """
    SELECT quote_ident(nspname) AS name FROM pg_namespace WHERE nspname = $1 OR starts_with(nspname, $2)
"""


class Cell:
    """The world of one test: a name, a Postgres schema, a NATS server, and identities made on demand.

    Schemas of parts are named ``<cell>_<part>``, as in production; all of them are dropped after the test.
    """

    def __init__(self, name: str, dsn: str, nats_url: str, keys: NatsKeys, folder: Path) -> None:
        self.name = name
        self.schema = name
        self.dsn = dsn
        self.nats_url = nats_url
        self.keys = keys
        self._folder = folder
        self._connections: list[Client] = []
        self._at_end: list[Callable[[], Awaitable[None]]] = []

    @property
    def credentials(self) -> Path:
        """A ``.creds`` file of a control-plane service."""
        return self.credentials_of(Identity.service("test"))

    def credentials_of(self, identity: Identity) -> Path:
        """A ``.creds`` file for *identity*, made at the first call."""
        path = self._folder / f"{identity.kind}-{identity.name}.creds"
        if not path.exists():
            account = self.keys.hosts if identity.kind == "host" else self.keys.cirra
            self._write_credentials(path, identity, identity_permissions(self.name, identity), account)
        return path

    async def connect(self, identity: Identity, on_error: OnError | None = None) -> Client:
        """A NATS connection with the rights and the inbox of *identity*; closed after the test.

        *on_error* is awaited with each error that the server reports, permission violations among them.
        """
        return await self._connect(self.credentials_of(identity), inbox_prefix(identity), on_error)

    async def connect_with(
        self,
        identity: Identity,
        permissions: Permissions,
        account: AccountKeys,
        on_error: OnError | None = None,
    ) -> Client:
        """As ``connect``, but with rights and an account to choose: shows why the usual ones are so."""
        path = self._folder / f"{secrets.token_hex(4)}.creds"
        self._write_credentials(path, identity, permissions, account)
        return await self._connect(path, inbox_prefix(identity), on_error)

    def at_end(self, look: Callable[[], Awaitable[None]]) -> None:
        """Has *look* called before the cell is dropped, when all that the test has started in it has ended."""
        self._at_end.append(look)

    async def close(self) -> None:
        """Take the last looks, close the connections, drop the cell's streams and schemas."""
        try:
            for look in self._at_end:
                await look()
        finally:
            await self.close_connections()
            await self._drop_streams()
            await self._drop_schemas()

    async def close_connections(self) -> None:
        """Close what ``connect`` opened; enough where the servers end with the test."""
        for connection in self._connections:
            if not connection.is_closed:
                await connection.close()

    def _write_credentials(
        self, path: Path, identity: Identity, permissions: Permissions, account: AccountKeys
    ) -> None:
        user = Nkey.generate(NkeyKind.USER)
        token = user_token(account.signer, str(identity), user.public, permissions, datetime.now(UTC))
        write_private(path, format_credentials(token, user.seed).encode())

    async def _connect(self, credentials: Path, prefix: str, on_error: OnError | None) -> Client:
        connection = await nats.connect(
            self.nats_url,
            user_credentials=str(credentials),
            inbox_prefix=prefix,
            error_cb=on_error,
            connect_timeout=_CONNECT_TIMEOUT_S,
        )
        self._connections.append(connection)
        return connection

    async def _drop_streams(self) -> None:
        connection = await self.connect(Identity.service("test"))
        try:
            jetstream = connection.jetstream(timeout=_JETSTREAM_TIMEOUT_S)
            for stream in await jetstream.streams_info():
                name = stream.config.name or ""
                if name.startswith(f"{self.name}-"):
                    await jetstream.delete_stream(name)
        finally:
            await connection.close()

    async def _drop_schemas(self) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            # A connection that a test forgot to close must not make this wait for ever.
            await connection.execute("SET lock_timeout = '30s'")
            rows = await connection.fetch(_SCHEMAS_OF_CELL, self.schema, f"{self.schema}_")
            for row in rows:
                await connection.execute(f"DROP SCHEMA {row['name']} CASCADE")
        finally:
            await connection.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    """The run's Postgres. It doesn't fsync: a test that is about durability starts its own."""
    async with EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), durable=False) as server:
        yield server
    # pytest keeps the folders of the last runs; of these 60 MB only the log is of use to anybody.
    await asyncio.to_thread(shutil.rmtree, server.data)


@pytest.fixture(scope="session")
def nats_keys(tmp_path_factory: pytest.TempPathFactory) -> NatsKeys:
    """The operator and account keys of the run's NATS."""
    return NatsKeys.create(tmp_path_factory.mktemp("nats-keys"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nats_server(tmp_path_factory: pytest.TempPathFactory, nats_keys: NatsKeys) -> AsyncIterator[EmbeddedNats]:
    """The run's NATS, in operator mode, with JetStream."""
    async with EmbeddedNats(tmp_path_factory.mktemp("nats"), keys=nats_keys) as server:
        yield server


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The run's certificate authority."""
    return Authority.create(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def cell_name() -> str:
    """A cell name that no other test of any run has."""
    return f"t{secrets.token_hex(6)}"


@pytest.fixture
def postgres_dsn(postgres_server: EmbeddedPostgres) -> str:
    """The run's Postgres; a test that uses it without ``cell`` answers for its own schema."""
    return postgres_server.dsn


@pytest_asyncio.fixture
async def cell(
    cell_name: str,
    postgres_server: EmbeddedPostgres,
    nats_server: EmbeddedNats,
    nats_keys: NatsKeys,
    tmp_path: Path,
) -> AsyncIterator[Cell]:
    """A fresh cell, with its schema made."""
    async with _fresh(Cell(cell_name, postgres_server.dsn, nats_server.url, nats_keys, tmp_path)) as world:
        yield world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_cell(
    postgres_server: EmbeddedPostgres,
    nats_server: EmbeddedNats,
    nats_keys: NatsKeys,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Cell]:
    """As `cell`, for all tests of a module."""
    folder = tmp_path_factory.mktemp("cell")
    name = f"t{secrets.token_hex(6)}"
    async with _fresh(Cell(name, postgres_server.dsn, nats_server.url, nats_keys, folder)) as world:
        yield world


@asynccontextmanager
async def _fresh(cell: Cell) -> AsyncIterator[Cell]:
    """Its schema is made before, and all that it has dropped after."""
    connection = await asyncpg.connect(cell.dsn)
    await connection.execute(f"CREATE SCHEMA {cell.schema}")
    await connection.close()
    yield cell
    await cell.close()
