"""Access tokens: got by password when the first call needs one, and again before they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from cirra.identity.v1 import identity_pb2 as pb
from cirra.identity.v1.identity_pb2_grpc import IdentityServiceStub
from cirra_sdk.errors import ConfigurationError
from cirra_sdk.state import AccessToken, Memory
from cirra_sdk.transport import NoToken, Transport


class FixedToken:
    """One that somebody else got: it can't be renewed."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def get(self) -> str:
        return self._token

    def reject(self, token: str) -> bool:
        return False


class PasswordLogin:
    """Exchanges *user*'s *password* for tokens scoped to *project*, and keeps the present one in *memory*.

    Without a password, a token that *memory* has is used as long as it is good.
    """

    def __init__(
        self,
        transport: Transport,
        memory: Memory,
        user: str,
        password: str,
        project: str,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._transport = transport.with_tokens(NoToken())
        self._memory = memory
        self._request = pb.CreateTokenRequest(user=user, password=password, project=project)
        self._now = now
        self._renewing = asyncio.Lock()

    async def get(self) -> str:
        """Raises Unauthenticated for a wrong password, ConfigurationError when there is none."""
        async with self._renewing:
            token = self._memory.token
            if token is None or not token.is_fresh(self._now()):
                await self._renew()
        assert self._memory.token is not None
        return self._memory.token.value

    def reject(self, token: str) -> bool:
        if self._memory.token is not None and self._memory.token.value == token:
            self._memory.token = None
            self._memory.save()
        return bool(self._request.password)

    async def _renew(self) -> None:
        if not self._request.user or not self._request.password:
            raise ConfigurationError(
                "no user and password to log in with" if not self._request.user else "no password to log in with",
                remedy="run `cirra login`, set CIRRA_USER and CIRRA_PASSWORD, or name them in clouds.yaml",
            )
        stub = IdentityServiceStub(self._transport.channel)
        answer: pb.Token = await self._transport.unary(stub.CreateToken, self._request)
        self._memory.token = received(answer, self._now())
        self._memory.save()


def received(token: pb.Token, now: float | None = None) -> AccessToken:
    """What is kept of a token that came just *now*."""
    obtained_at = time.time() if now is None else now
    return AccessToken(token.access_token, token.expire_time.ToNanoseconds() / 1e9, obtained_at)
