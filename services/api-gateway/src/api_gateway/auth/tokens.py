"""Access tokens: JSON Web Tokens (RFC 7519) signed with Ed25519 (RFC 8037). They are no events; revocation is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cirra.identity.v1.identity_pb2 import Principal, Role
from core.errors import CirraError, Unauthenticated
from core.ids import uuid7

ALGORITHM = "EdDSA"
AUDIENCE = "cirra-api"
_REMEMBERED = 1024
_LOG_IN = "log in again"
_CLAIMS = ["exp", "iat", "jti", "sub", "aud", "iss"]


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A verified token: who it is for, its id and when it ends."""

    principal: Principal
    token_id: UUID
    expires_at: datetime


class Tokens:
    """Makes and verifies the tokens of one cell. Every replica of the gateway has the same `key`.

    `now`: a time that all replicas agree on, so that what one issued is judged alike by the others.
    """

    def __init__(self, key: Ed25519PrivateKey, *, cell: str, lifetime: timedelta, now: Callable[[], datetime]) -> None:
        self._key = key
        self._public_key = key.public_key()
        self._issuer = f"cirra/{cell}"
        self._lifetime = lifetime
        self.now = now
        # A signature stays what it was; whether its token still holds is asked anew each time.
        self._decoded = lru_cache(maxsize=_REMEMBERED)(self._decode)

    def issue(self, principal: Principal) -> tuple[str, AccessToken]:
        """A new token for who has proven to be the principal."""
        issued_at = self.now().replace(microsecond=0)
        token = AccessToken(principal, uuid7(), issued_at + self._lifetime)
        claims = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": principal.user_id,
            "name": principal.user_name,
            "project": principal.project_id,
            "roles": [Role.Name(role) for role in principal.roles],
            "jti": str(token.token_id),
            "iat": issued_at,
            "exp": token.expires_at,
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM), token

    def verify(self, text: str, *, expired_too: bool = False) -> AccessToken:
        """Raises Unauthenticated for what is forged, damaged, of another cloud or, unless wanted, expired."""
        token = self._decoded(text)
        if token.expires_at <= self.now() and not expired_too:
            raise Unauthenticated(
                f"the access token expired at {token.expires_at.isoformat()}", reason="TOKEN_EXPIRED", remedy=_LOG_IN
            )
        return token

    def _decode(self, text: str) -> AccessToken:
        try:
            claims = jwt.decode(
                text,
                self._public_key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=self._issuer,
                # Time is judged by the clock that was given.
                options={"require": _CLAIMS, "verify_exp": False, "verify_iat": False},
            )
            return _read(claims)
        except (jwt.InvalidTokenError, ValueError, TypeError) as error:
            raise Unauthenticated(
                "the access token is not one of this cloud", reason="TOKEN_INVALID", remedy=_LOG_IN
            ) from error


def _read(claims: dict[str, Any]) -> AccessToken:
    known = dict(Role.items())
    principal = Principal(
        user_id=claims["sub"],
        user_name=claims.get("name", ""),
        project_id=claims.get("project", ""),
        # A role that this gateway does not know grants nothing.
        roles=[known[role] for role in claims.get("roles", ()) if role in known],
    )
    return AccessToken(principal, UUID(claims["jti"]), datetime.fromtimestamp(claims["exp"], UTC))


def load_key(path: Path) -> Ed25519PrivateKey:
    """The signing key in a PEM file (PKCS #8). Raises CirraError for any other."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise CirraError(f"can't read the token key {path}: {error}", remedy="give an Ed25519 key in PEM") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise CirraError(f"the token key {path} is not an Ed25519 key", remedy="openssl genpkey -algorithm ed25519")
    return key
