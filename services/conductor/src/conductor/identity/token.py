"""Access tokens are signed, not stored; that one was revoked is a fact. Its id is the token's `jti`."""

from __future__ import annotations

from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from cirra.identity.v1 import events_pb2 as pb
from core.aggregate import Aggregate, applies


class Token(Aggregate, kind="token"):
    """A token that was revoked before its time."""

    revoked: bool = False

    @property
    def resource_name(self) -> str:
        return f"tokens/{self.id}"

    @classmethod
    def revoke(cls, token_id: UUID, *, user_id: str, expires_at_unix: int) -> Token:
        """`expires_at_unix`: until then the revocation must be remembered; in seconds."""
        token = cls.new(token_id)
        token.record(pb.TokenRevoked(user_id=user_id, expire_time=Timestamp(seconds=expires_at_unix)))
        return token

    @applies(pb.TokenRevoked)
    def _revoked(self, event: pb.TokenRevoked) -> None:
        self.revoked = True
