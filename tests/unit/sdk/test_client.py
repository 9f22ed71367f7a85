"""The async client: tokens, positions, repeated calls, pages, errors, and what it asks for."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from grpc import StatusCode

from cirra.compute.v1 import compute_pb2 as compute
from cirra.events.v1 import events_pb2 as events
from cirra.identity.v1 import identity_pb2 as identity
from cirra.operations.v1 import operations_pb2 as operations
from cirra.placement.v1 import placement_pb2 as placement
from cirra_sdk import AsyncClient, errors
from tests.unit.sdk.fake_gateway import GONE, Failure, FakeGateway

FLAVOR = compute.Flavor(name="flavors/1", uid="1", display_name="small")


async def test_logs_in_at_the_first_call_and_only_once(gateway: FakeGateway, client: AsyncClient) -> None:
    gateway.answers("GetFlavor", FLAVOR)
    assert not gateway.calls

    assert await client.flavors.get("small") == FLAVOR
    await client.flavors.get("small")

    [login] = gateway.requests("CreateToken")
    assert (login.user, login.password, login.project) == ("ann", "secret", "demo")
    assert [call.metadata["authorization"] for call in gateway.calls_of("GetFlavor")] == ["Bearer token-1"] * 2


async def test_a_token_that_is_refused_is_renewed_once(gateway: FakeGateway, client: AsyncClient) -> None:
    gateway.answers("GetFlavor", FLAVOR)
    await client.flavors.get("small")
    gateway.good_tokens.clear()

    assert await client.flavors.get("small") == FLAVOR

    assert gateway.calls[-1].metadata["authorization"] == "Bearer token-2"
    gateway.fails("GetFlavor", *[Failure(StatusCode.UNAUTHENTICATED, "no", "TOKEN_REVOKED")] * 2)
    with pytest.raises(errors.Unauthenticated) as refused:
        await client.flavors.get("small")
    assert refused.value.reason == "TOKEN_REVOKED"


async def test_a_token_from_elsewhere_is_not_renewed(gateway: FakeGateway) -> None:
    async with AsyncClient.connect(endpoint=gateway.endpoint, token="mine") as client:
        with pytest.raises(errors.Unauthenticated):
            await client.flavors.get("small")
    assert [call.method for call in gateway.calls] == ["GetFlavor"]


async def test_a_wrong_password_is_told(gateway: FakeGateway) -> None:
    async with AsyncClient.connect(endpoint=gateway.endpoint, user="ann", password="wrong") as client:
        with pytest.raises(errors.Unauthenticated, match="wrong user or password") as refused:
            await client.flavors.get("small")
    assert refused.value.remedy == "check user and password"


async def test_reads_what_it_has_written(gateway: FakeGateway, client: AsyncClient) -> None:
    gateway.answers("CreateFlavor", FLAVOR)
    gateway.answers("GetFlavor", FLAVOR)
    gateway.position = 41
    await client.flavors.create("small", vcpus=1, memory_mib=512, disk_gib=5)
    gateway.position = 40

    await client.flavors.get("small")

    assert "cirra-min-position" not in gateway.calls_of("CreateToken")[0].metadata
    assert gateway.calls_of("GetFlavor")[0].metadata["cirra-min-position"] == "41"
    assert client.position == 41


async def test_another_user_on_the_same_connection_sees_what_the_first_wrote(
    gateway: FakeGateway, client: AsyncClient
) -> None:
    gateway.answers("GetFlavor", FLAVOR)
    gateway.position = 7
    await client.flavors.get("small")

    other = client.login_as("bob", "secret", "other")
    await other.flavors.get("small")

    assert gateway.requests("CreateToken")[1].user == "bob"
    assert gateway.calls[-1].metadata["authorization"] == "Bearer token-2"
    assert gateway.calls[-1].metadata["cirra-min-position"] == "7"


async def test_an_error_also_tells_a_position(gateway: FakeGateway, client: AsyncClient) -> None:
    gateway.position = 9
    gateway.fails("GetFlavor", Failure(StatusCode.NOT_FOUND, "no flavor", "NOT_FOUND"))
    with pytest.raises(errors.NotFound):
        await client.flavors.get("small")
    assert client.position == 9


async def test_a_write_whose_answer_was_lost_is_made_again_with_the_same_request_id(
    gateway: FakeGateway, client: AsyncClient
) -> None:
    gateway.fails("CreateFlavor", GONE, Failure(StatusCode.UNAVAILABLE, "soon", "READ_MODEL_BEHIND", retryable=True))
    gateway.answers("CreateFlavor", FLAVOR)

    assert await client.flavors.create("small", vcpus=1, memory_mib=512, disk_gib=5) == FLAVOR

    first, *again = gateway.requests("CreateFlavor")
    assert len(again) == 2 and again == [first, first]
    assert UUID(first.request_id)


async def test_another_write_has_another_request_id(gateway: FakeGateway, client: AsyncClient) -> None:
    gateway.answers("CreateFlavor", FLAVOR)
    for _ in range(2):
        await client.flavors.create("small", vcpus=1, memory_mib=512, disk_gib=5)
    await client.flavors.create("small", vcpus=1, memory_mib=512, disk_gib=5, request_id="mine")
    ids = [request.request_id for request in gateway.requests("CreateFlavor")]
    assert len(set(ids)) == 3 and ids[2] == "mine"


@pytest.mark.parametrize(
    "failure",
    [
        Failure(StatusCode.UNAVAILABLE, "halted at 12", "PROJECTION_HALTED"),
        Failure(StatusCode.RESOURCE_EXHAUSTED, "full", "NO_VALID_HOST", retryable=True),
        Failure(StatusCode.INTERNAL, "oops"),
    ],
)
async def test_what_will_not_pass_by_itself_is_not_tried_again(
    gateway: FakeGateway, client: AsyncClient, failure: Failure
) -> None:
    gateway.fails("GetFlavor", failure)
    with pytest.raises(errors.CirraApiError):
        await client.flavors.get("small")
    assert len(gateway.calls_of("GetFlavor")) == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (StatusCode.INVALID_ARGUMENT, errors.InvalidArgument),
        (StatusCode.PERMISSION_DENIED, errors.PermissionDenied),
        (StatusCode.NOT_FOUND, errors.NotFound),
        (StatusCode.ALREADY_EXISTS, errors.AlreadyExists),
        (StatusCode.FAILED_PRECONDITION, errors.FailedPrecondition),
        (StatusCode.RESOURCE_EXHAUSTED, errors.ResourceExhausted),
        (StatusCode.ABORTED, errors.Conflict),
        (StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (StatusCode.UNAVAILABLE, errors.Unavailable),
        (StatusCode.INTERNAL, errors.CirraApiError),
    ],
)
async def test_each_status_is_an_exception_of_its_own(
    gateway: FakeGateway, client: AsyncClient, code: StatusCode, kind: type[errors.CirraApiError]
) -> None:
    gateway.fails("GetFlavor", Failure(code, "what", "WHY", "do that", {"flavor.vcpus": "give 1 or more"}))
    with pytest.raises(errors.CirraApiError) as raised:
        await client.flavors.get("small")
    error = raised.value
    assert type(error) is kind
    assert (error.reason, error.message, error.remedy, error.retryable) == ("WHY", "what", "do that", False)
    assert error.field_violations == (errors.FieldViolation("flavor.vcpus", "give 1 or more"),)


async def test_nobody_there() -> None:
    async with AsyncClient.connect(
        endpoint="http://127.0.0.1:1", user="ann", password="secret", retry_for_s=0.3
    ) as client:
        with pytest.raises(errors.Unreachable, match=r"no answer from the cloud at http://127\.0\.0\.1:1") as raised:
            await client.flavors.get("small")
    assert raised.value.retryable and "endpoint" in raised.value.remedy


async def test_passwords_do_not_go_over_the_network_in_the_clear() -> None:
    with pytest.raises(errors.ConfigurationError, match="in the clear"):
        AsyncClient.connect(endpoint="http://192.0.2.1:80", user="ann", password="secret")
    with pytest.raises(errors.ConfigurationError, match="no endpoint"):
        AsyncClient.connect(endpoint="cloud.example", user="ann", password="secret")


async def test_pages_are_fetched_as_they_are_needed(gateway: FakeGateway, client: AsyncClient) -> None:
    def page(request: compute.ListFlavorsRequest) -> compute.ListFlavorsResponse:
        begin = int(request.page_token or "0")
        flavors = [compute.Flavor(uid=str(number)) for number in range(begin, begin + request.page_size)]
        return compute.ListFlavorsResponse(flavors=flavors, next_page_token=str(begin + 2) if begin < 4 else "")

    gateway.answers("ListFlavors", page)
    assert [flavor.uid async for flavor in client.flavors.list(page_size=2)] == ["0", "1", "2", "3", "4", "5"]
    assert [request.page_token for request in gateway.requests("ListFlavors")] == ["", "2", "4"]

    async for flavor in client.flavors.list(page_size=2):
        assert flavor.uid == "0"
        break
    assert len(gateway.requests("ListFlavors")) == 4


async def test_an_instance_is_asked_for_by_names_or_messages(gateway: FakeGateway, client: AsyncClient) -> None:
    gateway.answers("CreateInstance", operations.Operation(name="operations/1", uid="1"))
    await client.instances.create(
        "web",
        flavor=FLAVOR,
        image="debian",
        networks=["lan"],
        nics=[compute.InstanceNic(port="p1")],
        key_pair="ann",
        user_data="#!/bin/sh",
        metadata={"role": "web"},
        availability_zone="north",
    )
    [request] = gateway.requests("CreateInstance")
    assert request.instance == compute.Instance(
        display_name="web",
        flavor="flavors/1",
        image="debian",
        nics=[compute.InstanceNic(port="p1"), compute.InstanceNic(network="lan")],
        key_pair="ann",
        user_data=b"#!/bin/sh",
        metadata={"role": "web"},
        availability_zone="north",
    )


async def test_as_of_a_time(gateway: FakeGateway, client: AsyncClient) -> None:
    gateway.answers("GetInstance", compute.Instance())
    await client.instances.get("web", as_of=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert gateway.requests("GetInstance")[0].as_of.ToJsonString() == "2026-01-02T03:04:05Z"


async def test_roles_and_quotas(gateway: FakeGateway, client: AsyncClient) -> None:
    gateway.answers("GrantRole", identity.User(name="users/1"))
    gateway.answers("SetQuotas", identity.Quotas())
    project = identity.Project(name="projects/9", uid="9")
    await client.users.grant_role("bob", identity.ROLE_MEMBER, project)
    await client.users.grant_role("bob", identity.ROLE_ADMIN)
    await client.quotas.set(project, {"instances": 3, "vcpus": -1})
    member, admin = (request.binding for request in gateway.requests("GrantRole"))
    assert member == identity.RoleBinding(project_id="9", role=identity.ROLE_MEMBER)
    assert admin == identity.RoleBinding(role=identity.ROLE_ADMIN)
    [limits] = gateway.requests("SetQuotas")
    assert limits.project == "projects/9"
    assert {quota.resource: quota.limit for quota in limits.quotas} == {"instances": 3, "vcpus": -1}


async def test_events_go_on_where_they_were(gateway: FakeGateway, client: AsyncClient) -> None:
    def answer(request: events.WatchEventsRequest) -> object:
        yield events.Event(position=request.after_position + 1)
        raise GONE

    gateway.answers("WatchEvents", answer)
    seen = []
    async for event in client.events.watch(after_position=10):
        seen.append(event.position)
        if len(seen) == 3:
            break
    assert seen == [11, 12, 13]


async def test_hosts_services_and_enrolment(gateway: FakeGateway, client: AsyncClient) -> None:
    gateway.answers("DisableHost", placement.Host(name="hosts/a", disabled_reason="broken"))
    gateway.answers("ListServices", placement.ListServicesResponse(services=[placement.ServiceStatus(service="x")]))
    gateway.answers("CreateEnrolmentToken", placement.EnrolmentToken(host="b", token="once"))
    assert (await client.hosts.disable("a", "broken")).disabled_reason == "broken"
    assert [service.service for service in await client.services.list()] == ["x"]
    assert (await client.enrolment_tokens.create("b", ttl_seconds=60)).token == "once"
    assert gateway.requests("CreateEnrolmentToken")[0].ttl_seconds == 60
