"""The gRPC channel to a cloud's endpoint."""

from __future__ import annotations

import ipaddress

import grpc

from cirra_sdk.config import Profile
from cirra_sdk.errors import ConfigurationError

_PLAINTEXT = "http://"
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    # A cloud that vanished without a word is noticed, also while a watch is quiet.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # One that restarts is found again in a moment, not after gRPC's default of up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Also how long a connection may take to be made.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # What is tried again is decided in one place: `cirra_sdk.transport`.
    ("grpc.enable_retries", 0),
    # Closing one client never hurts another.
    ("grpc.use_local_subchannel_pool", 1),
)


def open_channel(profile: Profile) -> grpc.aio.Channel:
    """TLS to *profile*'s endpoint, `host:port` (or `http://host:port`, on this machine only). Connects when it is used.

    Needs a running event loop. Raises ConfigurationError.
    """
    if profile.endpoint.startswith(_PLAINTEXT):
        address = profile.endpoint.removeprefix(_PLAINTEXT).rstrip("/")
        if not _is_loopback(_host(address)):
            raise ConfigurationError(
                f"{profile.endpoint} would send passwords in the clear", remedy="name the endpoint as host:port"
            )
        return grpc.aio.insecure_channel(address, _OPTIONS)
    address = profile.endpoint.removeprefix("https://").rstrip("/")
    _host(address)
    credentials = grpc.ssl_channel_credentials(root_certificates=profile.authority())
    return grpc.aio.secure_channel(address, credentials, _OPTIONS)


def _host(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigurationError(f"{address!r} is no endpoint", remedy="give host:port, such as 127.0.0.1:8443")
    return host.strip("[]")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
