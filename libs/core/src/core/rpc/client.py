"""gRPC channels: mutual TLS, one or several addresses, reconnection, bounded waits, errors as `core.errors`."""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Sequence
from typing import Any, cast

import grpc
from cryptography import x509

from core.pki.identity import Identity, certificate_trust_domain
from core.pki.tls import TlsFiles, channel_credentials, demand_server
from core.rpc.calls import OutgoingMethod
from core.rpc.server import MAX_MESSAGE_BYTES, MAX_METADATA_BYTES
from core.settings import split_address

DEFAULT_TIMEOUT_S = 30.0

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    # A peer that vanished without a word is noticed, also while nothing is asked.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A server that restarts is found again in a moment, not after gRPC's default of up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A channel of its own per call of `channel`, so that closing one never hurts another.
    ("grpc.use_local_subchannel_pool", 1),
)
_ROUND_ROBIN = json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}})


def channel(
    addresses: Sequence[str],
    tls: TlsFiles | None,
    *,
    server: Identity | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> grpc.aio.Channel:
    """A channel to a service at *addresses* (host:port each); calls are spread over those that say they serve.

    *server*: the handshake fails unless the peer is that identity, wherever it was dialled; without it, the peer's
    certificate must name the host that was dialled. *credentials* replace those made of *tls*, for a client without a
    certificate. *timeout_s* bounds unary calls that name no timeout. Connects at the first call, and again for ever;
    a call while no address can be reached fails at once with Unavailable. Raises ValueError for a bad address.
    """
    options: list[tuple[str, int | str]] = [*CHANNEL_OPTIONS]
    if len(addresses) > 1:
        options.append(("grpc.service_config", _ROUND_ROBIN))
    if tls is not None and server is not None:
        options.append(demand_server(server, _trust_domain(tls)))
    if credentials is None and tls is not None:
        credentials = channel_credentials(tls)
    target = _target(addresses)
    if credentials is None:
        inner = grpc.aio.insecure_channel(target, options)
    else:
        inner = grpc.aio.secure_channel(target, credentials, options)
    # It does all that a channel does; that gRPC's own class has no public constructor keeps it from being one.
    return cast(grpc.aio.Channel, ObservedChannel(inner, timeout_s))


def server_only_credentials(authority_pem: bytes) -> grpc.ChannelCredentials:
    """For a client that has no certificate yet: the server must show one of our authority."""
    return grpc.ssl_channel_credentials(root_certificates=authority_pem)


class ObservedChannel:
    """A channel whose calls carry trace, correlation id and principal, and raise errors of `core.errors`."""

    def __init__(self, inner: grpc.aio.Channel, timeout_s: float | None) -> None:
        self._inner = inner
        self._timeout_s = timeout_s

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> OutgoingMethod:
        return OutgoingMethod(method, self._inner.unary_unary(method, *args, **kwargs), self._timeout_s)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> OutgoingMethod:
        return OutgoingMethod(method, self._inner.unary_stream(method, *args, **kwargs), None)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> OutgoingMethod:
        return OutgoingMethod(method, self._inner.stream_unary(method, *args, **kwargs), None)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> OutgoingMethod:
        return OutgoingMethod(method, self._inner.stream_stream(method, *args, **kwargs), None)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._inner.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        await self._inner.close(grace)

    async def __aenter__(self) -> ObservedChannel:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


def _target(addresses: Sequence[str]) -> str:
    """gRPC's name for *addresses*. Several must be of one address family; names are looked up now."""
    if not addresses:
        raise ValueError("no address to connect to")
    if len(addresses) == 1:
        split_address(addresses[0])
        return addresses[0]
    resolved = [resolved for address in addresses for resolved in _resolve(*split_address(address))]
    versions = {ip.version for ip, _ in resolved}
    if len(versions) > 1:
        raise ValueError(f"{', '.join(addresses)} mix IPv4 and IPv6")
    scheme, form = ("ipv4", "{}:{}") if versions == {4} else ("ipv6", "[{}]:{}")
    return f"{scheme}:" + ",".join(dict.fromkeys(form.format(ip, port) for ip, port in resolved))


def _resolve(host: str, port: int) -> list[tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise ValueError(f"{host} has no address: {error}") from error
    # The system's order of preference; one address per name, as the rest are the same server.
    return [(ipaddress.ip_address(found[0][4][0]), port)]


def _trust_domain(tls: TlsFiles) -> str:
    return certificate_trust_domain(x509.load_pem_x509_certificate(tls.authority.read_bytes()))
