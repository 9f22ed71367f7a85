"""What instances are chosen from: flavors and key pairs."""

from __future__ import annotations

from api_gateway.views.view import Audience, Columns, View
from cirra.compute.v1 import compute_pb2 as pb
from cirra.compute.v1 import events_pb2 as events
from core.eventlog.types import RecordedEvent

FLAVOR = View(
    "flavor",
    pb.Flavor,
    columns=lambda flavor: Columns(display_name=flavor.display_name),
    audience=Audience.EVERYONE,
)
KEY_PAIR = View(
    "key_pair",
    pb.KeyPair,
    # A key pair is its user's, in every project.
    columns=lambda key_pair: Columns(
        project_id=key_pair.name.split("/")[1], about=key_pair.user_id, display_name=key_pair.display_name
    ),
    audience=Audience.USER,
    title="key pair",
)


@FLAVOR.on(events.FlavorCreated, begins=True)
def _flavor_created(flavor: pb.Flavor, event: RecordedEvent, message: events.FlavorCreated) -> None:
    flavor.name = f"flavors/{flavor.uid}"
    flavor.display_name = message.display_name
    flavor.vcpus = message.vcpus
    flavor.memory_mib = message.memory_mib
    flavor.disk_gib = message.disk_gib
    flavor.extra_specs.update(message.extra_specs)


@FLAVOR.on(events.FlavorDeleted, ends=True)
def _flavor_deleted(flavor: pb.Flavor, event: RecordedEvent, message: events.FlavorDeleted) -> None:
    """Its last state stays."""


@KEY_PAIR.on(events.KeyPairCreated, begins=True)
def _key_pair_created(key_pair: pb.KeyPair, event: RecordedEvent, message: events.KeyPairCreated) -> None:
    key_pair.name = f"projects/{message.project_id}/keyPairs/{key_pair.uid}"
    key_pair.display_name = message.display_name
    key_pair.public_key = message.public_key
    key_pair.fingerprint = message.fingerprint
    key_pair.type = message.type
    key_pair.user_id = message.user_id


@KEY_PAIR.on(events.KeyPairDeleted, ends=True)
def _key_pair_deleted(key_pair: pb.KeyPair, event: RecordedEvent, message: events.KeyPairDeleted) -> None:
    """Its last state stays."""
