"""NATS JWTs (format version 2): operator, account and user claims, signed with nkeys.

Format: https://github.com/nats-io/jwt (v2). A token is ``header.claims.signature`` in unpadded base64url;
the algorithm is ``ed25519-nkey``; ``jti`` is the base32 SHA-512/256 hash of the claims with an empty
``jti``.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from core.natsauth.keys import NatsKeys, Nkey, NkeyKind, UserSigner, check_public_nkey
from core.natsauth.permissions import HOST_BRIDGE, BridgedSubject, Permissions

_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}
_UNLIMITED = -1

# For each pull across accounts nats-server keeps the way back to the caller, and forgets it after this
# silence. A pull request must therefore expire sooner than this.
PULL_REPLY_WINDOW = timedelta(minutes=2)


def operator_token(keys: NatsKeys, issued_at: datetime) -> str:
    """The operator's self-signed token: it names the system account and nothing else."""
    nats = {"system_account": keys.system.public, "type": "operator", "version": 2}
    return _sign(keys.operator, "cirra", keys.operator.public, nats, issued_at)


def account_tokens(keys: NatsKeys, issued_at: datetime) -> dict[str, str]:
    """The tokens of all accounts by their public keys: what nats-server's ``resolver_preload`` holds."""
    exports = [_export(bridged) for bridged in HOST_BRIDGE]
    imports = [_import(bridged, keys.cirra.identity.public) for bridged in HOST_BRIDGE]
    claims = {
        "SYS": (keys.system, _account_claims(signing_keys=[])),
        "CIRRA": (
            keys.cirra.identity,
            _account_claims([keys.cirra.signing_key], jetstream=True) | {"exports": exports},
        ),
        "HOSTS": (keys.hosts.identity, _account_claims([keys.hosts.signing_key]) | {"imports": imports}),
    }
    return {
        identity.public: _sign(keys.operator, name, identity.public, nats, issued_at)
        for name, (identity, nats) in claims.items()
    }


def user_token(
    signer: UserSigner,
    name: str,
    user_public: str,
    permissions: Permissions,
    issued_at: datetime,
    expires_at: datetime | None = None,
) -> str:
    """A token that lets the holder of *user_public*'s seed connect as *name* with *permissions*.

    Only the public key is needed, so the seed never leaves the machine that generated it. nats-server
    closes the connection at *expires_at*. Raises InvalidArgument if *user_public* is not a public user key.
    """
    check_public_nkey(user_public, NkeyKind.USER)
    nats = {
        **permissions.to_claims(),
        "subs": _UNLIMITED,
        "data": _UNLIMITED,
        "payload": _UNLIMITED,
        "issuer_account": signer.account_public,
        "type": "user",
        "version": 2,
    }
    return _sign(signer.signing_key, name, user_public, nats, issued_at, expires_at)


def format_credentials(token: str, seed: bytes) -> str:
    """The text of a ``.creds`` file, as nats-py's ``user_credentials`` reads it. It holds a secret."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n"
        "NKEY Seed printed below can be used to sign and prove identity.\n"
        "NKEYs are sensitive and should be treated as secrets.\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed.decode()}\n------END USER NKEY SEED------\n\n"
        "*************************************************************\n"
    )


def decode_claims(token: str) -> dict[str, Any]:
    """The claims of a token, **without** checking its signature: for display and tests."""
    body = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims


def _account_claims(signing_keys: Sequence[Nkey], jetstream: bool = False) -> dict[str, Any]:
    # nats-server would read an absent limit as zero; its own settings bound what JetStream uses.
    limited = ["subs", "data", "payload", "imports", "exports", "conn", "leaf"]
    if jetstream:
        limited += ["mem_storage", "disk_storage", "streams", "consumer"]
    return {
        "limits": {**dict.fromkeys(limited, _UNLIMITED), "wildcards": True},
        "signing_keys": [key.public for key in signing_keys],
        # Deny by default: a user token without permissions may do nothing.
        "default_permissions": Permissions(publish=(), subscribe=()).to_claims(),
        "type": "account",
        "version": 2,
    }


def _export(bridged: BridgedSubject) -> dict[str, Any]:
    export: dict[str, Any] = {"name": bridged.name, "subject": bridged.subject, "type": "service"}
    if bridged.many_replies:
        window = int(PULL_REPLY_WINDOW.total_seconds() * 1_000_000_000)
        return export | {"response_type": "Stream", "response_threshold": window}
    return export | {"response_type": "Singleton"}


def _import(bridged: BridgedSubject, exporter: str) -> dict[str, Any]:
    return {"name": bridged.name, "subject": bridged.subject, "type": "service", "account": exporter}


def _sign(
    issuer: Nkey,
    name: str,
    subject: str,
    nats: Mapping[str, Any],
    issued_at: datetime,
    expires_at: datetime | None = None,
) -> str:
    claims: dict[str, Any] = {
        "jti": "",
        "iat": int(issued_at.timestamp()),
        "iss": issuer.public,
        "name": name,
        "sub": subject,
        "nats": dict(nats),
    }
    if expires_at is not None:
        claims["exp"] = int(expires_at.timestamp())
    digest = hashlib.new("sha512_256", _canonical(claims)).digest()
    claims["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
    signed = f"{_base64url(_canonical(_HEADER))}.{_base64url(_canonical(claims))}"
    return f"{signed}.{_base64url(issuer.sign(signed.encode()))}"


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
