"""The certificate authority: one self-signed root, ECDSA on P-256, that signs services and hosts directly."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from core.errors import FieldViolation, InvalidArgument
from core.pki.files import ensure_private_folder, write_private, write_public
from core.pki.identity import Identity, certificate_trust_domain, check_trust_domain
from core.pki.tls import TlsFiles

DEFAULT_TRUST_DOMAIN = "cirra.internal"
ROOT_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=365)
# A machine whose clock is behind ours must not find a fresh certificate "not yet valid": TLS asks its clock alone.
_CLOCK_TOLERANCE = timedelta(days=1)
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_DNS_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DNS_NAME = re.compile(rf"{_DNS_LABEL}(\.{_DNS_LABEL})*")


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates of one trust domain; its own key and certificate are ``ca.key`` and ``ca.crt``."""

    folder: Path
    certificate: x509.Certificate
    trust_domain: str
    _key: ec.EllipticCurvePrivateKey = field(repr=False)
    _now: Callable[[], datetime] = _utc_now

    @classmethod
    def create(
        cls, folder: Path, trust_domain: str = DEFAULT_TRUST_DOMAIN, now: Callable[[], datetime] = _utc_now
    ) -> Authority:
        """Make a root in *folder*. Raises FileExistsError rather than replace one."""
        if (folder / "ca.crt").exists():
            raise FileExistsError(f"{folder} already holds a certificate authority")
        check_trust_domain(trust_domain)
        ensure_private_folder(folder)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _self_signed(key, trust_domain, now())
        write_private(folder / "ca.key", _key_pem(key))
        # Last: its presence means that the folder is complete.
        write_public(folder / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM))
        return cls(folder, certificate, trust_domain, key, now)

    @classmethod
    def load(cls, folder: Path, now: Callable[[], datetime] = _utc_now) -> Authority:
        """Read what ``create`` made. Raises FileNotFoundError, or ValueError for damaged files."""
        certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ValueError(f"the key in {folder} is not that of its certificate")
        return cls(folder, certificate, certificate_trust_domain(certificate), key, now)

    @classmethod
    def load_or_create(cls, folder: Path, trust_domain: str = DEFAULT_TRUST_DOMAIN) -> Authority:
        """The authority of *folder*, made at the first call."""
        return cls.load(folder) if (folder / "ca.crt").exists() else cls.create(folder, trust_domain)

    @property
    def certificate_pem(self) -> bytes:
        """The root certificate: what every peer trusts."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue_server(
        self, name: str, sans: Sequence[str], folder: Path, lifetime: timedelta = LEAF_LIFETIME
    ) -> TlsFiles:
        """Make a key and a certificate for service *name* in *folder*, good as a server and as a client.

        It is valid for localhost, 127.0.0.1, ::1 and *sans* (DNS names and IP addresses).
        """
        identity = Identity.service(name)
        key, request = new_key_and_request(identity)
        certificate = self.sign_csr(request, identity, (*_LOOPBACK_NAMES, *sans), lifetime)
        return TlsFiles.write(folder, self.certificate_pem, certificate, key)

    def sign_csr(
        self,
        csr_pem: bytes,
        identity: Identity,
        sans: Sequence[str] = (),
        lifetime: timedelta = LEAF_LIFETIME,
    ) -> bytes:
        """Sign the public key of a certificate request (PKCS #10, PEM) as *identity*; the certificate in
        PEM.

        Only the key is taken from the request: names and extensions that it asks for are ignored. Raises
        InvalidArgument for a request that is damaged, not signed by its own key, or not ECDSA on P-256.
        """
        public_key = _requested_key(csr_pem)
        names = [
            x509.UniformResourceIdentifier(identity.uri(self.trust_domain)),
            x509.DNSName(identity.server_name(self.trust_domain)),
            *(self._general_name(san) for san in dict.fromkeys(sans)),
        ]
        now = self._now()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_common_name(identity.name))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_TOLERANCE)
            .not_valid_after(min(now + lifetime, self.certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def _general_name(self, san: str) -> x509.GeneralName:
        try:
            return x509.IPAddress(ipaddress.ip_address(san))
        except ValueError:
            # Names below the trust domain stand for identities: nobody gets another's.
            if not _DNS_NAME.fullmatch(san) or san.lower().endswith(f".{self.trust_domain}"):
                raise InvalidArgument(FieldViolation("sans", f"{san!r} can't be in a certificate")) from None
            return x509.DNSName(san)


def new_key_and_request(identity: Identity) -> tuple[bytes, bytes]:
    """A fresh private key and a certificate request for it, both PEM: what an enrolling host makes."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(_common_name(identity.name))
    signed = request.sign(key, hashes.SHA256())
    return _key_pem(key), signed.public_bytes(serialization.Encoding.PEM)


def _requested_key(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key, is_signed = request.public_key(), request.is_signature_valid
    except (ValueError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise _bad_request("not a certificate request in PEM") from error
    if not is_signed:
        raise _bad_request("it is not signed by its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _bad_request("its key is not ECDSA on P-256")
    return key


def _bad_request(description: str) -> InvalidArgument:
    return InvalidArgument(FieldViolation("csr", description), reason="INVALID_CSR")


def _self_signed(key: ec.EllipticCurvePrivateKey, trust_domain: str, now: datetime) -> x509.Certificate:
    name = _common_name(f"{trust_domain} root")
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_TOLERANCE)
        .not_valid_after(now + ROOT_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(names, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _common_name(name: str) -> x509.Name:
    # RFC 5280 bounds a common name at 64 characters; nobody reads ours for a decision.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
