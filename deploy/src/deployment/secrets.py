"""Everything secret of a deployment, made once: keys, passwords, the authority, identities of the services."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.natsauth.keys import AccountName, NatsKeys, Nkey, NkeyKind
from core.natsauth.permissions import identity_permissions
from core.natsauth.tokens import format_credentials, user_token
from core.pki.authority import Authority
from core.pki.files import ensure_private_folder, write_private, write_public
from core.pki.identity import Identity
from core.pki.tls import TlsFiles
from deployment.config import Config
from deployment.layout import Layout

NATS_SERVER = "nats"
CONTROL_PLANE = ("conductor", "placement", "api-gateway", "metadata")

_RENEW_BEFORE = timedelta(days=30)
_KEY_BYTES = 32
_PASSWORD_BYTES = 18


def utc_now() -> datetime:
    return datetime.now(UTC)


def prepare(layout: Layout, config: Config, now: Callable[[], datetime] = utc_now) -> None:
    """Makes what is missing, renews certificates that end soon; what is there and good is left as it is."""
    ensure_private_folder(layout.secrets)
    for name in ("master", "ticket", "metadata"):
        _once(secret_key(layout, name), _random_key)
    _once(token_key(layout), _signing_key_pem)
    _once(admin_password(layout), lambda: secrets.token_urlsafe(_PASSWORD_BYTES).encode())
    authority = Authority.load_or_create(layout.authority)
    for service in (*CONTROL_PLANE, NATS_SERVER):
        _certificate(authority, service, config.address, layout.tls(service), now())
    keys = nats_keys(layout, config)
    _host_signer(layout.host_signer, keys)
    ensure_private_folder(layout.nats_credentials("").parent)
    for service in CONTROL_PLANE:
        identity = Identity.service(service)
        _once(layout.nats_credentials(service), partial(_credentials, keys, config, identity, now()))


def secret_key(layout: Layout, name: str) -> Path:
    """32 random bytes in base64."""
    return layout.secrets / f"{name}.key"


def token_key(layout: Layout) -> Path:
    """The Ed25519 key that signs access tokens, PEM."""
    return layout.secrets / "token.pem"


def admin_password(layout: Layout) -> Path:
    return layout.secrets / "admin-password"


def authority_file(layout: Layout) -> Path:
    """The root certificate, which every client trusts."""
    return layout.authority / "ca.crt"


def nats_keys(layout: Layout, config: Config) -> NatsKeys:
    """Ours, or those of the NATS that the settings name."""
    if config.external.nats_keys_directory:
        return NatsKeys.load(Path(config.external.nats_keys_directory))
    return NatsKeys.load_or_create(layout.nats_keys)


def _once(path: Path, make: Callable[[], bytes]) -> None:
    if not path.exists():
        write_private(path, make())


def _random_key() -> bytes:
    return base64.b64encode(os.urandom(_KEY_BYTES))


def _signing_key_pem() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _certificate(authority: Authority, service: str, address: str, folder: Path, now: datetime) -> None:
    """A new one when there is none, when it ends soon, or when it isn't good for *address*."""
    file = TlsFiles.in_folder(folder).certificate
    if file.exists():
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        is_for_address = ip_address(address) in names.get_values_for_type(x509.IPAddress)
        if is_for_address and certificate.not_valid_after_utc - now > _RENEW_BEFORE:
            return
    authority.issue_server(service, (address,), folder)


def _host_signer(folder: Path, keys: NatsKeys) -> None:
    name = AccountName.HOSTS.value
    ensure_private_folder(folder)
    write_public(folder / f"{name}.pub", keys.hosts.identity.public.encode())
    write_private(folder / f"{name}-signing.nk", keys.hosts.signing_key.seed)


def _credentials(keys: NatsKeys, config: Config, identity: Identity, now: datetime) -> bytes:
    user = Nkey.generate(NkeyKind.USER)
    permissions = identity_permissions(config.cell, identity)
    token = user_token(keys.cirra.signer, str(identity), user.public, permissions, now)
    return format_credentials(token, user.seed).encode()
