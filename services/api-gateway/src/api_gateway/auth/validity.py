"""Whether a token that was signed is still good: it may have been revoked, or its user have lost what it tells of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from api_gateway.auth.revocations import Revocations
from api_gateway.auth.roles import Roles
from api_gateway.auth.tokens import AccessToken
from core.errors import Unauthenticated
from core.eventlog.log import EventLog
from core.eventlog.types import RecordedEvent

_ROLE_REVOKED = "ROLE_REVOKED"


class Validity:
    """What a replica of the gateway has heard in the log of tokens and of users."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._revocations = Revocations(now)
        self._roles = Roles()

    async def load(self, log: EventLog, up_to: int) -> None:
        """What the log holds up to a position."""
        await self._revocations.load(log, up_to)
        await self._roles.load(log, up_to)

    def heard(self, event: RecordedEvent) -> None:
        self._revocations.heard(event)
        self._roles.heard(event)

    async def require(self, token: AccessToken, caught_up: Callable[[], Awaitable[None]]) -> None:
        """Raises the token's fault. `caught_up`: returns once all of the log was heard."""
        fault = self.fault(token)
        if fault is not None and fault.reason == _ROLE_REVOKED:
            # It may have been given back, and the user have logged in since: at a replica that knew it already.
            await caught_up()
            fault = self.fault(token)
        if fault is not None:
            raise fault

    def fault(self, token: AccessToken) -> Unauthenticated | None:
        """Why the token is good no more; None: it is good, unless it has expired."""
        if token.token_id in self._revocations:
            return Unauthenticated("the access token was revoked", reason="TOKEN_REVOKED", remedy="log in again")
        if not self._roles.cover(token.principal):
            return Unauthenticated(
                "the access token tells of a role that its user has no more",
                reason=_ROLE_REVOKED,
                remedy="log in again",
            )
        return None

    @contextmanager
    def telling(self, token: AccessToken, tell: Callable[[], None]) -> Iterator[None]:
        """Within it, `tell` is called when the token gets a fault."""
        with self._revocations.telling(token.token_id, tell), self._roles.telling(token.principal, tell):
            yield
