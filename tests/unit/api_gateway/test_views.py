"""Views in general: which events they read, what they don't show; images, and what is in catalogues."""

from __future__ import annotations

from uuid import uuid4

from api_gateway.views.catalog import FLAVOR, KEY_PAIR
from api_gateway.views.fold import Fold
from api_gateway.views.identity import PROJECT, USER
from api_gateway.views.image import IMAGE
from api_gateway.views.instance import INSTANCE
from api_gateway.views.network import NETWORK
from api_gateway.views.registry import VIEWS
from api_gateway.views.view import etag
from cirra.compute.v1 import events_pb2 as compute_events
from cirra.identity.v1 import events_pb2 as identity_events
from cirra.identity.v1 import identity_pb2 as identity
from cirra.image.v1 import events_pb2 as image_events
from cirra.image.v1 import image_pb2 as image
from cirra.network.v1 import events_pb2 as network_events
from cirra.operations.v1 import events_pb2 as saga
from cirra.placement.v1 import events_pb2 as placement_events
from core.sealing import sensitive_paths
from tests.unit.api_gateway.history import History, row_of


def test_no_event_is_without_a_reader_by_accident() -> None:
    """Every event of the contract changes a view, or is known not to."""
    invisible = {
        "cirra.compute.v1.InstanceDomainDesired",  # a wish; what it leads to is observed
        "cirra.compute.v1.InstanceDeleteRequested",  # the task that follows is shown
        "cirra.compute.v1.InstancePasswordPosted",  # a secret: only who asks for it is told
        "cirra.operations.v1.EpochRaised",  # each host then tells that it is observe-only
        "cirra.identity.v1.TokenRevoked",
        "cirra.identity.v1.DefaultQuotasSet",  # limits are asked of the conductor
        "cirra.identity.v1.EnrolmentTokenIssued",
        "cirra.identity.v1.EnrolmentTokenUsed",
        "cirra.placement.v1.DetectorTookOver",  # what it declares is shown
        "cirra.placement.v1.ClaimCleanupPending",  # the capacity stays held
        "cirra.placement.v1.ClaimRefused",  # told by ExplainPlacement, and in the instance's fault
        "cirra.placement.v1.ClaimTombstoned",
    }
    modules = (compute_events, identity_events, image_events, network_events, saga, placement_events)
    declared = {message.full_name for module in modules for message in module.DESCRIPTOR.message_types_by_name.values()}
    shown = {event_type for view in VIEWS for event_type in view.event_types}
    assert declared - shown == invisible
    assert shown <= declared


def test_no_view_shows_a_secret(history: History) -> None:
    uid = uuid4()
    history.add("instance", uid, compute_events.InstanceCreated(project_id="p1", user_data=b"sealed"))
    assert row_of(history, INSTANCE, uid).resource.user_data == b""
    with_secrets = {view.kind for view in VIEWS if sensitive_paths(view.resource_class.DESCRIPTOR)}
    assert with_secrets == {"instance"}


def test_an_image_is_queued_active_or_rejected(history: History) -> None:
    uid = uuid4()
    history.add("image", uid, image_events.ImageCreated(project_id="p1", visibility=image.IMAGE_VISIBILITY_PUBLIC))
    assert row_of(history, IMAGE, uid).resource.status == image.IMAGE_STATUS_QUEUED
    history.add("image", uid, image_events.ImageRejected(reason="IMAGE_TRUNCATED", message="short"))
    rejected = row_of(history, IMAGE, uid).resource
    assert (rejected.status, rejected.status_reason) == (image.IMAGE_STATUS_REJECTED, "IMAGE_TRUNCATED: short")
    history.add("image", uid, image_events.ImageActivated(sha256="ab", size_bytes=1, virtual_size_bytes=2))
    active = row_of(history, IMAGE, uid).resource
    assert (active.status, active.status_reason, active.sha256) == (image.IMAGE_STATUS_ACTIVE, "", "ab")
    assert IMAGE.columns(active).public


def test_users_projects_flavors_and_key_pairs(history: History) -> None:
    user, project, flavor, key_pair = uuid4(), uuid4(), uuid4(), uuid4()
    reader = identity.RoleBinding(project_id=str(project), role=identity.ROLE_READER)
    member = identity.RoleBinding(project_id=str(project), role=identity.ROLE_MEMBER)
    history.add("project", project, identity_events.ProjectCreated(display_name="web", description="d"))
    history.add_all(
        "user",
        user,
        identity_events.UserCreated(display_name="alice"),
        identity_events.UserRoleGranted(binding=reader),
        identity_events.UserRoleGranted(binding=member),
        identity_events.UserRoleGranted(binding=member),
        identity_events.UserRoleRevoked(binding=reader),
    )
    history.add("flavor", flavor, compute_events.FlavorCreated(display_name="m1", vcpus=1, extra_specs={"a": "b"}))
    history.add(
        "key_pair", key_pair, compute_events.KeyPairCreated(project_id="p1", user_id="u1", display_name="laptop")
    )
    assert list(row_of(history, USER, user).resource.roles) == [member]
    assert row_of(history, PROJECT, project).resource.name == f"projects/{project}"
    assert dict(row_of(history, FLAVOR, flavor).resource.extra_specs) == {"a": "b"}
    columns = KEY_PAIR.columns(row_of(history, KEY_PAIR, key_pair).resource)
    assert (columns.project_id, columns.about) == ("p1", "u1")


def test_every_change_has_its_etag(history: History) -> None:
    uid = uuid4()
    history.add("flavor", uid, compute_events.FlavorCreated(display_name="m1"))
    row = row_of(history, FLAVOR, uid)
    assert row.resource.etag == etag(str(uid), 1)
    assert (row.create_position, row.update_position) == (1, 1)


def test_a_fold_takes_in_no_event_twice(history: History) -> None:
    uid = uuid4()
    history.add_all(
        "network",
        uid,
        network_events.NetworkCreated(display_name="lan"),
        network_events.SubnetCreated(subnet_id="s1", network_id=str(uid)),
    )
    row = row_of(history, NETWORK, uid)
    fold = Fold([row])
    assert [changed.kind for changed in fold.apply(history.events[1])] == ["subnet"]
    assert list(row.resource.subnets) == ["s1"]


def test_what_nothing_began_is_skipped(history: History) -> None:
    history.add("port", uuid4(), network_events.PortLeaseSeen(ip_address="10.0.0.5"))
    assert Fold().apply(history.events[0]) == []
