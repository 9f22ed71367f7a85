"""What an enrolled host is given: a certificate, a NATS token, the key of its metadata proxies."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from core.errors import FieldViolation, InvalidArgument
from core.natsauth.keys import NkeyKind, UserSigner, check_public_nkey
from core.natsauth.permissions import host_permissions
from core.natsauth.tokens import user_token
from core.pki.authority import Authority
from core.pki.identity import Identity


@dataclass(frozen=True, slots=True)
class Issued:
    """`certificate` in PEM; the hashes in hexadecimal, as the log keeps them."""

    certificate: str
    nats_jwt: str
    metadata_proxy_key: bytes
    certificate_sha256: str
    keys_sha256: str


@dataclass(frozen=True, slots=True)
class HostCredentials:
    """Signs the identities of hosts. `metadata_key`: 32 bytes from which each host's own key is derived."""

    authority: Authority
    signer: UserSigner
    cell: str
    metadata_key: bytes
    now: Callable[[], datetime]

    @property
    def certificate_authority(self) -> str:
        return self.authority.certificate_pem.decode()

    def issue(self, host: str, certificate_request: str, nats_public_key: str) -> Issued:
        """Signs both public keys for the host. Raises InvalidArgument for bad ones."""
        try:
            check_public_nkey(nats_public_key, NkeyKind.USER)
        except InvalidArgument as error:
            raise _named(error, "nats_public_key") from error
        try:
            pem = self.authority.sign_csr(certificate_request.encode(), Identity.host(host), (host,))
        except InvalidArgument as error:
            raise _named(error, "certificate_request") from error
        certificate = x509.load_pem_x509_certificate(pem)
        public_key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return Issued(
            certificate=pem.decode(),
            nats_jwt=user_token(
                self.signer, f"host/{host}", nats_public_key, host_permissions(self.cell, host), self.now()
            ),
            metadata_proxy_key=self.metadata_proxy_key(host),
            certificate_sha256=certificate.fingerprint(SHA256()).hex(),
            keys_sha256=hashlib.sha256(public_key + nats_public_key.encode()).hexdigest(),
        )

    def metadata_proxy_key(self, host: str) -> bytes:
        """HMAC-SHA256 of the host's name: the metadata service derives the same."""
        return hmac.new(self.metadata_key, host.encode(), hashlib.sha256).digest()


def _named(error: InvalidArgument, field: str) -> InvalidArgument:
    """The same error about the field of the request."""
    violations = [FieldViolation(field, violation.description) for violation in error.violations]
    return InvalidArgument(*violations, reason=error.reason)
