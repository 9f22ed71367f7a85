"""The key pair: a user's public key, put into instances so that its owner can log in."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from cirra.compute.v1 import compute_pb2 as public
from cirra.compute.v1 import events_pb2 as pb
from conductor import quotas, references
from conductor.compute.public_key import PublicKey, parse_public_key
from conductor.fields import Fields
from conductor.requests import require_live
from core.aggregate import Aggregate, applies, constrains
from core.eventlog.types import Constraint, UniqueClaim, UniqueRelease

NAMES = "key-pair-name"


class KeyPair(Aggregate, kind="key_pair"):
    project_id: str = ""
    user_id: str = ""
    display_name: str = ""
    public_key: str = ""
    fingerprint: str = ""
    key_type: str = ""
    deleted: bool = False

    @property
    def resource_name(self) -> str:
        return f"projects/{self.project_id}/keyPairs/{self.id}"

    @classmethod
    def create(cls, key_pair_id: UUID, wanted: public.KeyPair, *, project_id: str, user_id: str) -> KeyPair:
        """Raises InvalidArgument."""
        key = _checked(wanted)
        key_pair = cls.new(key_pair_id)
        key_pair.record(
            pb.KeyPairCreated(
                project_id=project_id,
                user_id=user_id,
                display_name=wanted.display_name,
                public_key=key.line,
                fingerprint=key.fingerprint,
                type=key.type,
            )
        )
        return key_pair

    def delete(self) -> None:
        """Instances keep the key. Raises NotFound when deleted."""
        require_live(self).record(
            pb.KeyPairDeleted(project_id=self.project_id, user_id=self.user_id, display_name=self.display_name)
        )

    @applies(pb.KeyPairCreated)
    def _created(self, event: pb.KeyPairCreated) -> None:
        self.project_id, self.user_id, self.display_name = event.project_id, event.user_id, event.display_name
        self.public_key, self.fingerprint, self.key_type = event.public_key, event.fingerprint, event.type

    @applies(pb.KeyPairDeleted)
    def _deleted(self, event: pb.KeyPairDeleted) -> None:
        self.deleted = True


def _checked(wanted: public.KeyPair) -> PublicKey:
    fields = Fields("key_pair.")
    fields.name("display_name", wanted.display_name)
    key = PublicKey("", "", "")
    try:
        key = parse_public_key(wanted.public_key)
    except ValueError as error:
        fields.refuse("public_key", str(error))
    fields.check()
    return key


def _name_key(user_id: str, display_name: str) -> str:
    return f"{user_id}/{display_name}"


@constrains(pb.KeyPairCreated)
def _begins(key_pair_id: UUID, event: pb.KeyPairCreated) -> Iterator[Constraint]:
    yield UniqueClaim(NAMES, _name_key(event.user_id, event.display_name), str(key_pair_id))
    yield quotas.usage("key_pairs", event.project_id, 1)
    yield references.used(references.USER_KEY_PAIRS, event.user_id)


@constrains(pb.KeyPairDeleted)
def _ends(key_pair_id: UUID, event: pb.KeyPairDeleted) -> Iterator[Constraint]:
    yield UniqueRelease(NAMES, _name_key(event.user_id, event.display_name), str(key_pair_id))
    yield quotas.usage("key_pairs", event.project_id, -1)
    yield references.given_up(references.USER_KEY_PAIRS, event.user_id)
