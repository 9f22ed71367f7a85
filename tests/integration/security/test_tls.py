"""Mutual TLS over real sockets: gRPC and NATS, with good, foreign and missing certificates."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import nats
import pytest

from core.embedded.nats import EmbeddedNats
from core.natsauth.keys import NatsKeys
from core.pki.authority import Authority, new_key_and_request
from core.pki.identity import Identity, peer_identity
from core.pki.tls import (
    TlsFiles,
    channel_credentials,
    client_ssl_context,
    demand_server,
    server_credentials,
)
from core.testing.servers import Cell

WHO_AM_I = "/test.Identity/WhoAmI"


class WhoAmI(grpc.GenericRpcHandler):
    """Answers any call with the identity that the server reads from the caller's certificate."""

    def __init__(self, trust_domain: str) -> None:
        self._trust_domain = trust_domain

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            return str(peer_identity(context.auth_context(), self._trust_domain)).encode()

        return grpc.unary_unary_rpc_method_handler(answer)


def host_files(authority: Authority, folder: Path, name: str) -> TlsFiles:
    """An enrolled host: its key never left it, the authority saw the request only."""
    key, request = new_key_and_request(Identity.host(name))
    certificate = authority.sign_csr(request, Identity.host(name))
    return TlsFiles.write(folder, authority.certificate_pem, certificate, key)


@pytest.fixture
async def port(authority: Authority, tmp_path: Path) -> AsyncIterator[int]:
    """A gRPC server with the certificate of service conductor."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((WhoAmI(authority.trust_domain),))
    tls = authority.issue_server("conductor", [], tmp_path / "server")
    port = server.add_secure_port("127.0.0.1:0", server_credentials(tls))
    await server.start()
    yield port
    await server.stop(grace=None)


async def ask(address: str, credentials: grpc.ChannelCredentials, options: Sequence[tuple[str, str]] = ()) -> str:
    async with grpc.aio.secure_channel(address, credentials, options=list(options)) as channel:
        call = channel.unary_unary(WHO_AM_I, request_serializer=bytes, response_deserializer=bytes)
        return (await call(b"", timeout=60)).decode()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
async def test_the_server_knows_a_host_by_its_certificate(
    authority: Authority, tmp_path: Path, port: int, name: str
) -> None:
    credentials = channel_credentials(host_files(authority, tmp_path / "alice", "alice"))
    assert await ask(f"{name}:{port}", credentials) == "host/alice"


async def test_a_caller_without_a_certificate_is_refused(authority: Authority, port: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await ask(f"localhost:{port}", grpc.ssl_channel_credentials(authority.certificate_pem))
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_caller_of_another_authority_is_refused(authority: Authority, tmp_path: Path, port: int) -> None:
    stranger = Authority.create(tmp_path / "stranger", authority.trust_domain)
    forged = host_files(stranger, tmp_path / "alice", "alice")
    believing = TlsFiles.write(
        tmp_path / "forged", authority.certificate_pem, forged.certificate.read_bytes(), forged.key.read_bytes()
    )
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await ask(f"localhost:{port}", channel_credentials(believing))
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_server_of_another_authority_is_not_talked_to(tmp_path: Path, port: int) -> None:
    stranger = Authority.create(tmp_path / "stranger")
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await ask(f"localhost:{port}", channel_credentials(host_files(stranger, tmp_path / "a", "alice")))
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_caller_can_demand_who_the_server_is(authority: Authority, tmp_path: Path, port: int) -> None:
    credentials = channel_credentials(host_files(authority, tmp_path / "alice", "alice"))
    conductor = demand_server(Identity.service("conductor"), authority.trust_domain)
    assert await ask(f"localhost:{port}", credentials, [conductor]) == "host/alice"
    for other in (Identity.service("placement"), Identity.host("conductor")):
        with pytest.raises(grpc.aio.AioRpcError):
            await ask(f"localhost:{port}", credentials, [demand_server(other, authority.trust_domain)])


async def test_nats_over_tls_admits_only_our_certificates(
    authority: Authority, nats_keys: NatsKeys, tmp_path: Path
) -> None:
    tls = authority.issue_server("nats", [], tmp_path / "server")
    async with EmbeddedNats(tmp_path / "nats", keys=nats_keys, tls=tls) as server:
        cell = Cell("c1", "", server.url, nats_keys, tmp_path)
        credentials = str(cell.credentials_of(Identity.service("conductor")))
        ours = client_ssl_context(host_files(authority, tmp_path / "alice", "alice"))
        client = await nats.connect(server.url, tls=ours, user_credentials=credentials)
        assert (await client.jetstream().account_info()).limits.max_streams == -1
        await client.close()

        anonymous = ssl.create_default_context(cadata=authority.certificate_pem.decode())
        stranger = Authority.create(tmp_path / "stranger")
        distrusting = client_ssl_context(host_files(stranger, tmp_path / "mallory", "mallory"))
        for context in (anonymous, distrusting):
            with pytest.raises((ssl.SSLError, nats.errors.Error, ConnectionError)):
                await nats.connect(
                    server.url,
                    tls=context,
                    user_credentials=credentials,
                    allow_reconnect=False,
                    connect_timeout=5,
                )
