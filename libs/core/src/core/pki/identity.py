"""Who a TLS peer is: a SPIFFE URI in its certificate's subject alternative names.

``spiffe://<trust domain>/service/<name>`` is a control-plane service, ``spiffe://<trust
domain>/host/<name>`` a host with all its agents. Source:
https://spiffe.io/docs/latest/spiffe-specs/spiffe-id/ (one URI per certificate).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from cryptography import x509

from core.errors import FieldViolation, InvalidArgument, Unauthenticated

IdentityKind = Literal["service", "host"]

# gRPC's name for all subject alternative names of a verified peer: URIs, DNS names and addresses in one
# list.
_SAN_PROPERTY = "x509_subject_alternative_name"
_SCHEME = "spiffe://"
# One DNS label: fit for a certificate's DNS name, and without a meaning in a NATS subject.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_TRUST_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,126}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Identity:
    """A service or a host. Raises InvalidArgument if the name is not one DNS label in lower case."""

    kind: IdentityKind
    name: str

    def __post_init__(self) -> None:
        _check_name(self.kind, self.name)

    @classmethod
    def service(cls, name: str) -> Identity:
        return cls("service", name)

    @classmethod
    def host(cls, name: str) -> Identity:
        return cls("host", name)

    def uri(self, trust_domain: str) -> str:
        """The SPIFFE URI."""
        return f"{_SCHEME}{trust_domain}/{self.kind}/{self.name}"

    def server_name(self, trust_domain: str) -> str:
        """The DNS name, in no zone, by which a client can demand this identity of a server it dials."""
        return f"{self.name}.{self.kind}.{trust_domain}"

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


def parse_identity(uri: str, trust_domain: str) -> Identity:
    """The identity that *uri* names in *trust_domain*. Raises Unauthenticated for anything else."""
    prefix = f"{_SCHEME}{trust_domain}/"
    kind, separator, name = uri.removeprefix(prefix).partition("/")
    if not uri.startswith(prefix) or not separator or not _NAME.fullmatch(name):
        raise _refused(f"{uri!r} is not an identity of {trust_domain}")
    for known in get_args(IdentityKind):
        if kind == known:
            return Identity(known, name)
    raise _refused(f"{uri!r} is neither a service nor a host")


def peer_identity(auth_context: Mapping[str, Iterable[bytes]], trust_domain: str) -> Identity:
    """The identity of a gRPC peer, from ``ServicerContext.auth_context()``.

    Raises Unauthenticated if the peer showed no certificate, or one that does not name exactly one
    identity.
    """
    return _named_identity(tuple(auth_context.get(_SAN_PROPERTY, ())), trust_domain)


@lru_cache(maxsize=4096)
def _named_identity(names: tuple[bytes, ...], trust_domain: str) -> Identity:
    """Of a verified certificate with these names. A peer is asked for its own with each of its calls."""
    uris = [uri for name in names if (uri := name.decode(errors="replace")).startswith(_SCHEME)]
    return _only_identity(uris, trust_domain)


def certificate_identity(certificate: x509.Certificate, trust_domain: str) -> Identity:
    """The identity in a certificate, whose signature this does not check. Raises Unauthenticated."""
    return _only_identity(_uris(certificate), trust_domain)


def certificate_trust_domain(certificate: x509.Certificate) -> str:
    """The trust domain of any certificate of ours, the authority's own included. Raises Unauthenticated."""
    for uri in _uris(certificate):
        if uri.startswith(_SCHEME):
            return uri.removeprefix(_SCHEME).partition("/")[0]
    raise _refused("the certificate names no trust domain")


def _check_name(field: str, name: str) -> str:
    """Return *name* if it is one DNS label in lower case (no dot, no wildcard), else InvalidArgument."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(FieldViolation(field, f"{name!r} does not match {_NAME.pattern}"))
    return name


def check_trust_domain(name: str) -> str:
    """Return *name* if it can be a trust domain, else raise InvalidArgument."""
    if not _TRUST_DOMAIN.fullmatch(name):
        description = f"{name!r} does not match {_TRUST_DOMAIN.pattern}"
        raise InvalidArgument(FieldViolation("trust_domain", description))
    return name


def _only_identity(uris: list[str], trust_domain: str) -> Identity:
    if len(uris) != 1:
        raise _refused(f"the peer's certificate names {len(uris)} identities; it must name one")
    return parse_identity(uris[0], trust_domain)


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _refused(message: str) -> Unauthenticated:
    return Unauthenticated(message, reason="INVALID_PEER_IDENTITY")
