"""The reducers: from events to the public resource."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from api_gateway.views.catalog import FLAVOR, KEY_PAIR
from api_gateway.views.fold import Fold
from api_gateway.views.identity import PROJECT, USER
from api_gateway.views.image import IMAGE
from api_gateway.views.instance import INSTANCE, with_addresses
from api_gateway.views.network import NETWORK, PORT, SUBNET
from api_gateway.views.operation import OPERATION
from api_gateway.views.placement import HOST
from api_gateway.views.registry import VIEWS
from api_gateway.views.view import Row, View, etag
from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import compute_pb2 as compute
from cirra.compute.v1 import events_pb2 as compute_events
from cirra.identity.v1 import events_pb2 as identity_events
from cirra.identity.v1 import identity_pb2 as identity
from cirra.image.v1 import events_pb2 as image_events
from cirra.image.v1 import image_pb2 as image
from cirra.network.v1 import events_pb2 as network_events
from cirra.network.v1 import network_pb2 as network
from cirra.operations.v1 import events_pb2 as saga
from cirra.operations.v1 import operations_pb2 as operations
from cirra.placement.v1 import events_pb2 as placement_events
from cirra.placement.v1 import placement_pb2 as placement
from cirra.placement.v1 import scheduling_pb2 as scheduling
from core.ids import claim_aggregate_id, host_aggregate_id
from core.sealing import sensitive_paths
from tests.unit.api_gateway.history import BEGIN, History


@pytest.fixture
def history() -> History:
    return History()


def _row(history: History, view: View[Any], uid: UUID | str) -> Row[Any]:
    row = Fold().apply_all(history.events).get(view, str(uid))
    assert row is not None
    return row


def _instance(history: History, *messages: Any) -> compute.Instance:
    uid = uuid4()
    created = compute_events.InstanceCreated(
        project_id="p1", display_name="web", task_id="t1", user_data=b"sealed", metadata={"a": "b"}
    )
    history.add_all("instance", uid, created, *messages)
    instance: compute.Instance = _row(history, INSTANCE, uid).resource
    return instance


def _observed(state: agent.DomainState.ValueType) -> compute_events.InstanceDomainObserved:
    return compute_events.InstanceDomainObserved(host="h1", observed=agent.DomainObserved(state=state))


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
    assert _instance(history).user_data == b""
    with_secrets = {view.kind for view in VIEWS if sensitive_paths(view.resource_class.DESCRIPTOR)}
    assert with_secrets == {"instance"}


class TestInstance:
    def test_is_built_by_its_saga(self, history: History) -> None:
        instance = _instance(history)
        assert (instance.status, instance.task_state) == (compute.INSTANCE_STATUS_BUILD, "instance-create")
        assert instance.name == f"projects/p1/instances/{instance.uid}"
        assert instance.create_time.ToDatetime(BEGIN.tzinfo) == history.events[0].recorded_at
        assert dict(instance.metadata) == {"a": "b"}

    def test_stays_in_build_whatever_its_domain_does_before_activation(self, history: History) -> None:
        instance = _instance(history, _observed(agent.DOMAIN_STATE_SHUTOFF), _observed(agent.DOMAIN_STATE_RUNNING))
        assert instance.status == compute.INSTANCE_STATUS_BUILD
        assert instance.power_state == compute.POWER_STATE_RUNNING

    def test_is_active_once_activated(self, history: History) -> None:
        instance = _instance(
            history,
            _observed(agent.DOMAIN_STATE_RUNNING),
            compute_events.InstanceActivated(),
            compute_events.InstanceTaskEnded(task_id="t1"),
        )
        assert (instance.status, instance.task_state) == (compute.INSTANCE_STATUS_ACTIVE, "")

    @pytest.mark.parametrize(
        ("state", "status", "power"),
        [
            (agent.DOMAIN_STATE_SHUTOFF, compute.INSTANCE_STATUS_SHUTOFF, compute.POWER_STATE_SHUTDOWN),
            (agent.DOMAIN_STATE_CRASHED, compute.INSTANCE_STATUS_SHUTOFF, compute.POWER_STATE_CRASHED),
            (agent.DOMAIN_STATE_PAUSED, compute.INSTANCE_STATUS_ACTIVE, compute.POWER_STATE_PAUSED),
            (agent.DOMAIN_STATE_RUNNING, compute.INSTANCE_STATUS_ACTIVE, compute.POWER_STATE_RUNNING),
        ],
    )
    def test_follows_its_domain_after_activation(
        self,
        history: History,
        state: agent.DomainState.ValueType,
        status: compute.InstanceStatus.ValueType,
        power: compute.PowerState.ValueType,
    ) -> None:
        instance = _instance(history, compute_events.InstanceActivated(), _observed(state))
        assert (instance.status, instance.power_state) == (status, power)

    def test_a_failed_report_without_a_state_changes_no_status(self, history: History) -> None:
        failed = compute_events.InstanceDomainObserved(host="h1", failure=agent.Failure(reason="X"))
        running = _observed(agent.DOMAIN_STATE_RUNNING)
        instance = _instance(history, running, compute_events.InstanceActivated(), failed)
        assert (instance.status, instance.power_state) == (
            compute.INSTANCE_STATUS_ACTIVE,
            compute.POWER_STATE_RUNNING,
        )

    def test_an_error_has_its_cause_and_stays(self, history: History) -> None:
        fault = compute.Fault(reason="NO_VALID_HOST", remedy="add a host")
        instance = _instance(history, compute_events.InstanceErred(fault=fault), _observed(agent.DOMAIN_STATE_SHUTOFF))
        assert instance.status == compute.INSTANCE_STATUS_ERROR
        assert instance.fault.reason == "NO_VALID_HOST" and instance.fault.HasField("time")

    def test_an_error_by_its_hosts_word_ends_by_its_hosts_word(self, history: History) -> None:
        erred = compute_events.InstanceErred(fault=compute.Fault(reason="DISK_MISSING"), host="h1")
        before = (_observed(agent.DOMAIN_STATE_RUNNING), compute_events.InstanceActivated())
        ill = _instance(history, *before, _observed(agent.DOMAIN_STATE_SHUTOFF), erred)
        assert (ill.status, ill.power_state) == (compute.INSTANCE_STATUS_ERROR, compute.POWER_STATE_SHUTDOWN)
        uid = history.events[0].aggregate_id
        for message in (_observed(agent.DOMAIN_STATE_RUNNING), compute_events.InstanceRecovered(host="h1")):
            history.add("instance", uid, message)
        well = _row(history, INSTANCE, uid).resource
        assert well.status == compute.INSTANCE_STATUS_ACTIVE and not well.HasField("fault")

    def test_is_deleted(self, history: History) -> None:
        started = compute_events.InstanceTaskStarted(task="instance-delete", task_id="t2")
        assert _instance(history, started).task_state == "instance-delete"
        uid = history.events[0].aggregate_id
        history.add("instance", uid, compute_events.InstanceDeleted())
        row = _row(history, INSTANCE, uid)
        assert row.deleted
        assert (row.resource.status, row.resource.task_state) == (compute.INSTANCE_STATUS_DELETED, "")

    def test_metadata_counts_the_first_time(self, history: History) -> None:
        fetched = compute_events.InstanceMetadataFetched(path="/x")
        instance = _instance(history, fetched, fetched)
        assert instance.metadata_fetch_time.ToDatetime(BEGIN.tzinfo) == history.events[1].recorded_at

    def test_nics_come_and_go(self, history: History) -> None:
        instance = _instance(
            history,
            compute_events.InstanceNicAttached(nic=compute.InstanceNic(port="a")),
            compute_events.InstanceNicAttached(nic=compute.InstanceNic(port="b")),
            compute_events.InstanceNicDetached(port="a"),
        )
        assert [nic.port for nic in instance.nics] == ["b"]

    def test_addresses_are_joined_from_the_ports(self, history: History) -> None:
        port_id = uuid4()
        created = network_events.PortCreated(
            network_id="n1", mac_address="m", fixed_ips=[network.FixedIp(ip_address="10.0.0.5")]
        )
        attached = compute_events.InstanceNicAttached(nic=compute.InstanceNic(port=str(port_id)))
        _instance(history, attached)
        row = _row(history, INSTANCE, history.events[0].aggregate_id)
        history.add_all("port", port_id, created, network_events.PortLeaseSeen(ip_address="10.0.0.5"))
        joined = with_addresses(row, {str(port_id): _row(history, PORT, port_id)})
        [nic] = joined.nics
        assert (nic.network, nic.fixed_ip, nic.leased_ip, nic.seen_ip) == ("n1", "10.0.0.5", "10.0.0.5", "")
        assert nic.HasField("lease_time") and not nic.HasField("seen_time")
        assert joined.etag != row.resource.etag
        assert not row.resource.nics[0].fixed_ip, "the row itself is not changed"


class TestNetwork:
    def test_subnets_are_rows_of_their_own_on_the_network_s_stream(self, history: History) -> None:
        uid = uuid4()
        history.add_all(
            "network",
            uid,
            network_events.NetworkCreated(project_id="p1", display_name="lan", mtu=1500, shared=True),
            network_events.SubnetCreated(subnet_id="s1", network_id=str(uid), project_id="p1", cidr="10.0.0.0/24"),
            network_events.SubnetCreated(subnet_id="s2", network_id=str(uid), project_id="p1", gateway_ip="10.1.0.1"),
        )
        subnet = _row(history, SUBNET, "s1").resource
        assert (subnet.name, subnet.network, subnet.cidr) == ("projects/p1/subnets/s1", str(uid), "10.0.0.0/24")
        assert subnet.no_gateway and not _row(history, SUBNET, "s2").resource.no_gateway
        assert list(_row(history, NETWORK, uid).resource.subnets) == ["s1", "s2"]
        history.add("network", uid, network_events.SubnetDeleted(subnet_id="s1"))
        assert _row(history, SUBNET, "s1").deleted
        assert not _row(history, SUBNET, "s2").deleted
        assert list(_row(history, NETWORK, uid).resource.subnets) == ["s2"]
        assert NETWORK.columns(_row(history, NETWORK, uid).resource).public

    def test_an_external_network_is_seen_by_all(self, history: History) -> None:
        external, inner = uuid4(), uuid4()
        history.add("network", external, network_events.NetworkCreated(project_id="p1", external=True))
        history.add("network", inner, network_events.NetworkCreated(project_id="p1"))
        assert NETWORK.columns(_row(history, NETWORK, external).resource).public
        assert not NETWORK.columns(_row(history, NETWORK, inner).resource).public

    def test_a_port_is_active_when_wired_where_its_active_binding_is(self, history: History) -> None:
        uid = uuid4()
        history.add("port", uid, network_events.PortCreated(network_id="n1", device_id="i1"))

        def binding(host: str, state: network.PortBindingState.ValueType) -> network_events.PortBindingDesired:
            return network_events.PortBindingDesired(host=host, state=state)

        def wired(host: str, yes: bool = True) -> network_events.PortBindingObserved:
            return network_events.PortBindingObserved(host=host, observed=agent.PortObserved(wired=yes))

        def status() -> network.PortStatus.ValueType:
            found: network.PortStatus.ValueType = _row(history, PORT, uid).resource.status
            return found

        history.add("port", uid, binding("h1", network.PORT_BINDING_STATE_ACTIVE))
        assert status() == network.PORT_STATUS_DOWN
        history.add("port", uid, wired("h1"))
        assert status() == network.PORT_STATUS_ACTIVE
        history.add_all("port", uid, binding("h2", network.PORT_BINDING_STATE_INACTIVE), wired("h2"))
        history.add("port", uid, network_events.PortBindingRemoved(host="h1"))
        assert status() == network.PORT_STATUS_DOWN
        history.add("port", uid, binding("h2", network.PORT_BINDING_STATE_ACTIVE))
        assert status() == network.PORT_STATUS_ACTIVE
        failed = network_events.PortBindingObserved(host="h2", failure=agent.Failure(reason="X"))
        history.add("port", uid, failed)
        assert status() == network.PORT_STATUS_ERROR
        history.add("port", uid, wired("h3"))
        assert "h3" not in _row(history, PORT, uid).resource.bindings
        assert PORT.columns(_row(history, PORT, uid).resource).about == "i1"


class TestOperation:
    def _started(self, history: History) -> UUID:
        uid = uuid4()
        target = "projects/p1/instances/0190"
        history.add("saga", uid, saga.SagaStarted(saga="instance-create", project_id="p1", target=target))
        return uid

    def test_steps_that_succeed(self, history: History) -> None:
        uid = self._started(history)
        history.add_all(
            "saga",
            uid,
            saga.StepStarted(step="bind", item="a", attempt=1),
            saga.StepSucceeded(step="bind", item="a", attempt=1, detail="on h1"),
            saga.StepStarted(step="bind", item="b", attempt=1),
        )
        operation = _row(history, OPERATION, uid).resource
        assert [(step.item, step.state) for step in operation.steps] == [
            ("a", operations.STEP_STATE_SUCCEEDED),
            ("b", operations.STEP_STATE_RUNNING),
        ]
        assert operation.position == 4 and not operation.done
        history.add("saga", uid, saga.SagaCompleted())
        operation = _row(history, OPERATION, uid).resource
        assert (operation.state, operation.done) == (operations.OPERATION_STATE_SUCCEEDED, True)
        assert OPERATION.columns(operation).about == "0190"

    def test_another_attempt_forgets_the_error(self, history: History) -> None:
        uid = self._started(history)
        error = operations.OperationError(reason="HOST_GONE")
        history.add_all(
            "saga",
            uid,
            saga.StepStarted(step="build", attempt=1),
            saga.StepFailed(step="build", attempt=1, error=error, reschedule=True),
            saga.StepUndone(step="build", attempt=1),
        )
        operation = _row(history, OPERATION, uid).resource
        assert operation.state == operations.OPERATION_STATE_UNWINDING and operation.error == error
        history.add("saga", uid, saga.StepStarted(step="build", attempt=2))
        operation = _row(history, OPERATION, uid).resource
        assert operation.state == operations.OPERATION_STATE_RUNNING and not operation.HasField("error")
        assert [(step.attempt, step.state) for step in operation.steps] == [
            (1, operations.STEP_STATE_UNDONE),
            (2, operations.STEP_STATE_RUNNING),
        ]
        assert operation.steps[0].error == error

    def test_ends(self, history: History) -> None:
        error = operations.OperationError(reason="X", remedy="do y")
        for messages, state, done in (
            ((saga.SagaUnwound(error=error),), operations.OPERATION_STATE_FAILED, True),
            ((saga.SagaStuck(error=error),), operations.OPERATION_STATE_STUCK, False),
            ((saga.SagaStuck(error=error), saga.SagaResolved()), operations.OPERATION_STATE_FAILED, True),
            (
                (saga.StepFailed(error=error), saga.SagaStuck(undoing=True), saga.SagaRetried()),
                operations.OPERATION_STATE_UNWINDING,
                False,
            ),
        ):
            uid = self._started(history)
            history.add_all("saga", uid, *messages)
            operation = _row(history, OPERATION, uid).resource
            assert (operation.state, operation.done) == (state, done)
            assert operation.error == error


def test_a_host_s_usage_is_the_sum_of_its_claims(history: History) -> None:
    uid = host_aggregate_id("h1")
    resources = scheduling.Resources(vcpus=2, memory_mib=512, disk_gib=5)
    history.add("host", uid, placement_events.HostEnrolled(host="h1", availability_zone="z"))
    claims = [claim_aggregate_id(uuid4()) for _ in range(2)]
    for claim in claims:
        history.add("claim", claim, placement_events.ClaimMade(host="h1", resources=resources))
    history.add("claim", claims[0], placement_events.ClaimReleased(host="h1", resources=resources))
    history.add("claim", claims[0], placement_events.ClaimMade(host="unknown", resources=resources))
    host = _row(history, HOST, uid).resource
    assert host.usage == placement.Usage(vcpus=2, memory_mib=512, disk_gib=5, instances=1)
    assert (host.name, host.state, host.enabled) == ("hosts/h1", placement.HOST_STATE_ENROLLED, True)


def test_faults_are_each_agents_list_and_one_for_another_reason_is_another(history: History) -> None:
    uid = host_aggregate_id("h1")

    def told(agent_name: str, **reasons: str) -> placement_events.HostFaultsChanged:
        faults = [
            placement.HostFault(agent=agent_name, kind="router", object_id=each, reason=reason)
            for each, reason in reasons.items()
        ]
        return placement_events.HostFaultsChanged(host="h1", agent=agent_name, faults=faults)

    history.add_all(
        "host",
        uid,
        placement_events.HostEnrolled(host="h1"),
        told("net", a="BROKEN", b="BROKEN"),
        told("net", a="BROKEN", b="GONE"),
        told("block", c="FULL"),
    )
    found = {
        each.object_id: (each.reason, each.see_time.ToDatetime(BEGIN.tzinfo))
        for each in _row(history, HOST, uid).resource.faults
    }
    times = [event.recorded_at for event in history.events]
    assert found == {"a": ("BROKEN", times[1]), "b": ("GONE", times[2]), "c": ("FULL", times[3])}


def test_orphans_are_each_agents_list_and_keep_the_time_when_they_were_seen_first(history: History) -> None:
    uid = host_aggregate_id("h1")

    def told(agent_name: str, *ids: str) -> placement_events.HostOrphansChanged:
        orphans = [placement.HostOrphan(agent=agent_name, kind="domain", object_id=each) for each in ids]
        return placement_events.HostOrphansChanged(host="h1", agent=agent_name, orphans=orphans)

    created = placement_events.HostEnrolled(host="h1")
    history.add_all("host", uid, created, told("net", "n"), told("compute", "a"), told("compute", "b", "a"))
    found = {
        each.object_id: each.see_time.ToDatetime(BEGIN.tzinfo) for each in _row(history, HOST, uid).resource.orphans
    }
    times = [event.recorded_at for event in history.events]
    assert found == {"n": times[1], "a": times[2], "b": times[3]}
    history.add("host", uid, told("compute"))
    assert [each.object_id for each in _row(history, HOST, uid).resource.orphans] == ["n"]


def test_a_host_goes_up_and_down(history: History) -> None:
    uid = host_aggregate_id("h1")
    history.add_all(
        "host",
        uid,
        placement_events.HostEnrolled(host="h1"),
        placement_events.HostUp(host="h1", boot_ids={"compute": "b1", "net": "b1"}),
        placement_events.HostSuspected(host="h1", silent_agents=["net"]),
        placement_events.HostDown(host="h1", silent_agents=["net"]),
        placement_events.HostDisabled(host="h1", reason="disk"),
    )
    host = _row(history, HOST, uid).resource
    assert host.state == placement.HOST_STATE_DOWN
    assert {status.agent: status.up for status in host.agents} == {"compute": True, "net": False}
    assert (host.enabled, host.disabled_reason) == (False, "disk")
    history.add_all(
        "host", uid, placement_events.HostEnabled(host="h1"), placement_events.HostUp(host="h1", boot_ids={"net": "b2"})
    )
    host = _row(history, HOST, uid).resource
    assert (host.state, host.enabled, host.disabled_reason) == (placement.HOST_STATE_UP, True, "")
    assert [(status.agent, status.boot_id) for status in host.agents] == [("compute", "b1"), ("net", "b2")]


def test_an_image_is_queued_active_or_rejected(history: History) -> None:
    uid = uuid4()
    history.add("image", uid, image_events.ImageCreated(project_id="p1", visibility=image.IMAGE_VISIBILITY_PUBLIC))
    assert _row(history, IMAGE, uid).resource.status == image.IMAGE_STATUS_QUEUED
    history.add("image", uid, image_events.ImageRejected(reason="IMAGE_TRUNCATED", message="short"))
    rejected = _row(history, IMAGE, uid).resource
    assert (rejected.status, rejected.status_reason) == (image.IMAGE_STATUS_REJECTED, "IMAGE_TRUNCATED: short")
    history.add("image", uid, image_events.ImageActivated(sha256="ab", size_bytes=1, virtual_size_bytes=2))
    active = _row(history, IMAGE, uid).resource
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
    assert list(_row(history, USER, user).resource.roles) == [member]
    assert _row(history, PROJECT, project).resource.name == f"projects/{project}"
    assert dict(_row(history, FLAVOR, flavor).resource.extra_specs) == {"a": "b"}
    columns = KEY_PAIR.columns(_row(history, KEY_PAIR, key_pair).resource)
    assert (columns.project_id, columns.about) == ("p1", "u1")


def test_every_change_has_its_etag(history: History) -> None:
    uid = uuid4()
    history.add("flavor", uid, compute_events.FlavorCreated(display_name="m1"))
    row = _row(history, FLAVOR, uid)
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
    row = _row(history, NETWORK, uid)
    fold = Fold([row])
    assert [changed.kind for changed in fold.apply(history.events[1])] == ["subnet"]
    assert list(row.resource.subnets) == ["s1"]


def test_what_nothing_began_is_skipped(history: History) -> None:
    history.add("port", uuid4(), network_events.PortLeaseSeen(ip_address="10.0.0.5"))
    assert Fold().apply(history.events[0]) == []
