"""The permission for one machine to become one host: a one-time token, of which only the hash is kept."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from cirra.identity.v1 import events_pb2 as pb
from core.aggregate import Aggregate, applies, constrains
from core.errors import FailedPrecondition, Unauthenticated
from core.eventlog.types import Constraint, UniqueClaim

USES = "enrolment-token"  # unique scope: enrolment id → owner: the keys it was used with

SECRET_BYTES = 32
_REMEDY = "ask for a new token: cirra host enroll-token <host>"


@dataclass(frozen=True, slots=True)
class EnrolmentToken:
    """`<enrolment id>.<secret>`, both in base64url: the id finds the aggregate, the secret proves the right."""

    enrolment_id: UUID
    secret: bytes

    @classmethod
    def generate(cls, enrolment_id: UUID, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> EnrolmentToken:
        """*random_bytes* must be a cryptographic source."""
        return cls(enrolment_id, random_bytes(SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> EnrolmentToken:
        """Raises Unauthenticated."""
        enrolment_id, _, secret = text.partition(".")
        try:
            return cls(UUID(bytes=_decoded(enrolment_id)), _decoded(secret))
        except ValueError:
            raise refused_token() from None

    @property
    def text(self) -> str:
        return f"{_encoded(self.enrolment_id.bytes)}.{_encoded(self.secret)}"

    @property
    def hash(self) -> bytes:
        # The secret has 256 random bits: no slow hash is needed, as it would be for a password.
        return hashlib.sha256(self.secret).digest()


class Enrolment(Aggregate, kind="enrolment"):
    """`keys`: SHA-256 of the keys that the token was exchanged for; empty before."""

    host: str = ""
    availability_zone: str = ""
    token_hash: bytes = b""
    expires_at: datetime = datetime.min.replace(tzinfo=UTC)
    keys: str = ""

    @property
    def resource_name(self) -> str:
        return f"hosts/{self.host}"

    @classmethod
    def issue(cls, token: EnrolmentToken, *, host: str, availability_zone: str, expires_at: datetime) -> Enrolment:
        enrolment = cls.new(token.enrolment_id)
        expire_time = Timestamp()
        expire_time.FromDatetime(expires_at)
        enrolment.record(
            pb.EnrolmentTokenIssued(
                host=host, token_hash=token.hash, expire_time=expire_time, availability_zone=availability_zone
            )
        )
        return enrolment

    def admit(self, host: str, token: EnrolmentToken, now: datetime) -> None:
        """Lets the bearer pass. Raises Unauthenticated for another's token, or one that is too old."""
        if not hmac.compare_digest(token.hash, self.token_hash) or host != self.host:
            raise refused_token()
        if now >= self.expires_at:
            raise Unauthenticated(
                f"the enrolment token of {host} has expired", reason="ENROLMENT_TOKEN_EXPIRED", remedy=_REMEDY
            )

    def use(self, *, keys_sha256: str, certificate_sha256: str) -> None:
        """The token is exchanged; with the same keys again and again, until it expires: an answer may get lost.

        Raises FailedPrecondition for other keys than the first.
        """
        if self.keys not in ("", keys_sha256):
            raise used_already(self.host)
        self.record(
            pb.EnrolmentTokenUsed(host=self.host, certificate_sha256=certificate_sha256, keys_sha256=keys_sha256)
        )

    @applies(pb.EnrolmentTokenIssued)
    def _issued(self, event: pb.EnrolmentTokenIssued) -> None:
        self.host, self.availability_zone = event.host, event.availability_zone
        self.token_hash = event.token_hash
        self.expires_at = event.expire_time.ToDatetime(tzinfo=UTC)

    @applies(pb.EnrolmentTokenUsed)
    def _used(self, event: pb.EnrolmentTokenUsed) -> None:
        self.keys = event.keys_sha256


def refused_token() -> Unauthenticated:
    """One error for whatever is wrong with a token: who guesses learns nothing."""
    return Unauthenticated(
        "this enrolment token is not valid for this host", reason="ENROLMENT_TOKEN_INVALID", remedy=_REMEDY
    )


def used_already(host: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"the enrolment token of {host} was used already, with other keys",
        reason="ENROLMENT_TOKEN_USED",
        remedy=_REMEDY,
    )


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


@constrains(pb.EnrolmentTokenUsed)
def _used_once(enrolment_id: UUID, event: pb.EnrolmentTokenUsed) -> Iterator[Constraint]:
    yield UniqueClaim(USES, str(enrolment_id), event.keys_sha256)
