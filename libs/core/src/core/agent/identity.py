"""Who a host is: the files that enrolment leaves in one folder, and enrolment itself.

The private key and the NATS seed are made here and never leave the host; the conductor signs their public parts. All is
written before `host.json`, whose presence means that the folder is complete.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

import structlog
from cryptography import x509

from cirra.placement.v1 import placement_pb2, placement_pb2_grpc
from core.errors import FailedPrecondition, Unauthenticated
from core.natsauth.keys import Nkey, NkeyKind
from core.natsauth.tokens import format_credentials
from core.pki.authority import new_key_and_request
from core.pki.files import ensure_private_folder, write_private
from core.pki.identity import Identity, certificate_identity, certificate_trust_domain
from core.pki.tls import TlsFiles
from core.rpc.client import channel, server_only_credentials
from core.rpc.retry import retried

_log = structlog.get_logger(__name__)
_HOST_FILE = "host.json"
_PENDING_KEY = "pending.key"
_PENDING_REQUEST = "pending.csr"
_PENDING_SEED = "pending.nk"
_PENDING = (_PENDING_KEY, _PENDING_REQUEST, _PENDING_SEED)


@dataclass(frozen=True, slots=True)
class HostIdentity:
    """What the agents of one host know of themselves and of the cloud. *folder* has mode 0700."""

    folder: Path
    host: str
    cell: str
    nats_urls: tuple[str, ...]
    conductor_addresses: tuple[str, ...]
    metadata_url: str
    image_download_url: str
    availability_zone: str

    @property
    def identity(self) -> Identity:
        return Identity.host(self.host)

    @property
    def tls(self) -> TlsFiles:
        return TlsFiles.in_folder(self.folder)

    @property
    def nats_credentials(self) -> Path:
        return self.folder / "nats.creds"

    @property
    def metadata_key(self) -> Path:
        """The key, raw bytes, by which this host's metadata proxies sign what they say about a guest."""
        return self.folder / "metadata.key"

    @classmethod
    def load(cls, folder: Path) -> HostIdentity:
        """Read what `enroll` wrote. Raises FailedPrecondition when the host is not enrolled."""
        try:
            content = json.loads((folder / _HOST_FILE).read_bytes())
            return cls(
                folder=folder,
                host=content["host"],
                cell=content["cell"],
                nats_urls=tuple(content["nats_urls"]),
                conductor_addresses=tuple(content["conductor_addresses"]),
                metadata_url=content["metadata_url"],
                image_download_url=content["image_download_url"],
                availability_zone=content["availability_zone"],
            )
        except (FileNotFoundError, ValueError, KeyError) as error:
            raise FailedPrecondition(
                f"{folder} does not hold the identity of an enrolled host: {error!r}",
                reason="HOST_NOT_ENROLLED",
                remedy="enrol it: cirra host enroll-token, then cirra-deploy enroll",
            ) from error

    def save(self) -> None:
        content = {
            "host": self.host,
            "cell": self.cell,
            "nats_urls": list(self.nats_urls),
            "conductor_addresses": list(self.conductor_addresses),
            "metadata_url": self.metadata_url,
            "image_download_url": self.image_download_url,
            "availability_zone": self.availability_zone,
        }
        write_private(self.folder / _HOST_FILE, json.dumps(content, indent=1).encode())


def is_enrolled(folder: Path) -> bool:
    return (folder / _HOST_FILE).exists()


async def enroll(gateway_address: str, ca_file: Path, host: str, token: str, folder: Path) -> HostIdentity:
    """Enrol this machine as *host* by a one-time *token*; the identity is in *folder* afterwards.

    *ca_file*: the authority that the gateway's certificate must be of (there is no own certificate yet). Safe to
    repeat after a crash or a lost answer: the same keys are offered again, and an enrolled host is left as it is.
    Raises what the gateway says (Unauthenticated, PermissionDenied, …), or FailedPrecondition if *folder* holds
    another host.
    """
    if is_enrolled(folder):
        return _already(HostIdentity.load(folder), host)
    ensure_private_folder(folder)
    key, request, seed = _pending_keys(folder, host)
    credentials = server_only_credentials(await asyncio.to_thread(ca_file.read_bytes))
    async with channel([gateway_address], None, credentials=credentials) as gateway:
        stub = placement_pb2_grpc.HostServiceStub(gateway)
        question = placement_pb2.EnrollRequest(
            host=host, token=token, certificate_request=request.decode(), nats_public_key=seed.public
        )
        answer: placement_pb2.EnrollResponse = await retried(lambda: stub.Enroll(question))
    _check(answer, host)
    return _store(answer, folder, key, seed)


def _already(identity: HostIdentity, host: str) -> HostIdentity:
    if identity.host != host:
        raise FailedPrecondition(
            f"this machine is enrolled as {identity.host}, not as {host}",
            reason="ENROLLED_AS_ANOTHER_HOST",
            remedy=f"use another folder, or remove {identity.folder} to give that identity up",
        )
    _log.info("already enrolled", host=host)
    return identity


def _pending_keys(folder: Path, host: str) -> tuple[bytes, bytes, Nkey]:
    """The key, the certificate request (PEM both) and the NATS key of this attempt and of all that repeat it."""
    if not (folder / _PENDING_REQUEST).exists():
        key, request = new_key_and_request(Identity.host(host))
        write_private(folder / _PENDING_KEY, key)
        write_private(folder / _PENDING_SEED, Nkey.generate(NkeyKind.USER).seed)
        # Last: its presence means that the others are there.
        write_private(folder / _PENDING_REQUEST, request)
    return (
        (folder / _PENDING_KEY).read_bytes(),
        (folder / _PENDING_REQUEST).read_bytes(),
        Nkey.from_seed(NkeyKind.USER, (folder / _PENDING_SEED).read_bytes()),
    )


def _check(answer: placement_pb2.EnrollResponse, host: str) -> None:
    """The certificate must be ours before it replaces anything. Raises Unauthenticated."""
    certificate = x509.load_pem_x509_certificate(answer.certificate.encode())
    root = x509.load_pem_x509_certificate(answer.certificate_authority.encode())
    identity = certificate_identity(certificate, certificate_trust_domain(root))
    if identity != Identity.host(host):
        raise Unauthenticated(f"the certificate received is that of {identity}, not of host/{host}")


def _store(answer: placement_pb2.EnrollResponse, folder: Path, key: bytes, seed: Nkey) -> HostIdentity:
    TlsFiles.write(folder, answer.certificate_authority.encode(), answer.certificate.encode(), key)
    write_private(folder / "nats.creds", format_credentials(answer.nats_jwt, seed.seed).encode())
    write_private(folder / "metadata.key", answer.metadata_proxy_key)
    identity = HostIdentity(
        folder=folder,
        host=answer.host,
        cell=answer.cell,
        nats_urls=tuple(answer.nats_urls),
        conductor_addresses=tuple(answer.conductor_addresses),
        metadata_url=answer.metadata_url,
        image_download_url=answer.image_download_url,
        availability_zone=answer.availability_zone,
    )
    identity.save()
    for name in _PENDING:
        (folder / name).unlink(missing_ok=True)
    _log.info("enrolled", host=identity.host, cell=identity.cell)
    return identity
