"""Key files on disk, and the credentials that gRPC and NATS make of them: mutual TLS throughout."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from core.pki.files import ensure_private_folder, write_private, write_public
from core.pki.identity import Identity


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """One identity's files, all PEM: the trusted root, the own certificate, the own private key."""

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def in_folder(cls, folder: Path) -> TlsFiles:
        """The files as ``write`` names them; they need not exist."""
        return cls(authority=folder / "ca.pem", certificate=folder / "cert.pem", key=folder / "key.pem")

    @classmethod
    def write(cls, folder: Path, authority: bytes, certificate: bytes, key: bytes) -> TlsFiles:
        """Put an identity into *folder*, each file atomically, the key with mode 0600."""
        ensure_private_folder(folder)
        tls = cls.in_folder(folder)
        write_public(tls.authority, authority)
        write_private(tls.key, key)
        write_public(tls.certificate, certificate)
        return tls


def server_credentials(tls: TlsFiles, require_client: bool = True) -> grpc.ServerCredentials:
    """For ``grpc.aio.Server.add_secure_port``; *require_client* False: for doors that take tokens instead."""
    return grpc.ssl_server_credentials(
        [(tls.key.read_bytes(), tls.certificate.read_bytes())],
        root_certificates=tls.authority.read_bytes(),
        require_client_auth=require_client,
    )


def channel_credentials(tls: TlsFiles) -> grpc.ChannelCredentials:
    """For ``grpc.aio.secure_channel``: shows the own certificate and trusts the own root only."""
    return grpc.ssl_channel_credentials(
        root_certificates=tls.authority.read_bytes(),
        private_key=tls.key.read_bytes(),
        certificate_chain=tls.certificate.read_bytes(),
    )


def demand_server(identity: Identity, trust_domain: str) -> tuple[str, str]:
    """A channel option: the handshake fails unless the server is *identity*, wherever it was dialled."""
    return ("grpc.ssl_target_name_override", identity.server_name(trust_domain))


def client_ssl_context(tls: TlsFiles) -> ssl.SSLContext:
    """For nats-py, asyncpg and HTTP clients: mutual TLS, 1.3, trusting the own root only, names checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cafile=tls.authority)
    context.load_cert_chain(certfile=tls.certificate, keyfile=tls.key)
    return context


def server_ssl_context(tls: TlsFiles) -> ssl.SSLContext:
    """For HTTP servers behind whose door something else proves who asks: TLS 1.3, no certificate asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certfile=tls.certificate, keyfile=tls.key)
    return context
