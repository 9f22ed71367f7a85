"""What the command prints: data on stdout in each format, all else on stderr."""

from __future__ import annotations

import json

import pytest
import yaml

from cirra.compute.v1 import compute_pb2 as compute
from cirra.events.v1 import events_pb2 as events
from cirra.identity.v1 import identity_pb2 as identity
from cirra.image.v1 import image_pb2 as image
from cirra.network.v1 import network_pb2 as network
from cirra.placement.v1 import placement_pb2 as placement
from tests.unit.sdk.conftest import Cirra
from tests.unit.sdk.fake_gateway import FakeGateway
from tests.unit.sdk.messages import at, running_instance

UID = "0197a0c0-0000-7000-8000-000000000001"
FLAVOR = compute.Flavor(
    name=f"flavors/{UID}", uid=UID, display_name="small", vcpus=2, memory_mib=512, disk_gib=5, extra_specs={"a": "b"}
)


@pytest.fixture(autouse=True)
def flavors(gateway: FakeGateway) -> None:
    FLAVOR.create_time.CopyFrom(at(0))
    gateway.answers("GetFlavor", FLAVOR)
    gateway.answers("ListFlavors", compute.ListFlavorsResponse(flavors=[FLAVOR, compute.Flavor(name="flavors/2")]))


def test_a_list_is_a_table(cirra: Cirra) -> None:
    result = cirra("flavor", "list")
    header, _, first, _ = result.stdout.splitlines()
    assert header.split() == ["ID", "Name", "vCPUs", "RAM", "MiB", "Disk", "GiB"]
    assert first.split() == [UID, "small", "2", "512", "5"]
    assert (result.stderr, result.exit_code) == ("", 0)


def test_json_has_every_field_under_its_name(cirra: Cirra) -> None:
    assert json.loads(cirra("flavor", "show", "small", "-o", "json").stdout) == {
        "name": f"flavors/{UID}",
        "uid": UID,
        "display_name": "small",
        "vcpus": 2,
        "memory_mib": 512,
        "disk_gib": 5,
        "extra_specs": {"a": "b"},
        "create_time": "2026-01-31T12:00:00.000Z",
        "etag": "",
    }
    assert [flavor["vcpus"] for flavor in json.loads(cirra("flavor", "list", "-o", "json").stdout)] == [2, 0]


def test_json_says_states_as_people_do_and_null_for_what_is_not_there(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("GetInstance", running_instance())
    shown = json.loads(cirra("server", "show", "web", "-o", "json").stdout)
    assert (shown["status"], shown["power_state"], shown["fault"]) == ("ACTIVE", "RUNNING", None)
    assert shown["nics"][0]["leased_ip"] == "10.0.0.5"


def test_yaml_is_the_same(cirra: Cirra) -> None:
    as_json = json.loads(cirra("flavor", "show", "small", "-o", "json").stdout)
    assert yaml.safe_load(cirra("flavor", "show", "small", "-o", "yaml").stdout) == as_json


def test_names_are_for_scripts(cirra: Cirra) -> None:
    assert cirra("flavor", "show", "small", "-o", "name").stdout == f"flavors/{UID}\n"
    assert cirra("flavor", "list", "-o", "name").stdout == f"flavors/{UID}\nflavors/2\n"


def test_nothing_is_cut_or_taken_for_markup_without_a_terminal(gateway: FakeGateway, cirra: Cirra) -> None:
    name = "[red]" + "x" * 300
    gateway.answers("ListFlavors", compute.ListFlavorsResponse(flavors=[compute.Flavor(display_name=name)]))
    assert name in cirra("flavor", "list", COLUMNS="40").stdout


def test_no_colours_where_nobody_sees_them(cirra: Cirra, gateway: FakeGateway) -> None:
    gateway.answers("ListInstances", compute.ListInstancesResponse(instances=[running_instance()]))
    result = cirra("server", "list", NO_COLOR="1")
    assert "ACTIVE" in result.stdout and "\x1b" not in result.stdout


def test_an_instance_shows_three_addresses_side_by_side_and_its_metadata(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("GetInstance", running_instance())
    gateway.answers("GetImage", image.Image(display_name="debian"))
    gateway.answers("GetNetwork", network.Network(display_name="lan"))
    shown = cirra("server", "show", "web").stdout
    header = next(line for line in shown.splitlines() if "Allocated" in line)
    assert header.split() == ["Port", "Network", "MAC", "Allocated", "Leased", "Seen"]
    nic = next(line for line in shown.splitlines() if line.startswith("port-1"))
    assert nic.split() == ["port-1", "lan", "fa:16:3e:00:00:01", "10.0.0.5", "10.0.0.5", "10.0.0.5"]
    assert "fetched 2026-01-31T12:00:12.000Z, 2.00 s after the launch" in shown
    assert "small (1 vCPU, 512 MiB RAM, 5 GiB disk)" in shown
    assert "debian (img-1)" in shown
    assert "!" not in shown


def test_an_instance_that_did_not_get_what_it_was_given_says_so(gateway: FakeGateway, cirra: Cirra) -> None:
    instance = running_instance()
    instance.ClearField("metadata_fetch_time")
    instance.nics[0].ClearField("leased_ip")
    instance.nics[0].ClearField("seen_ip")
    instance.nics.add(fixed_ip="10.0.1.5", leased_ip="10.0.1.5", seen_ip="192.168.0.9")
    gateway.answers("GetInstance", instance)
    shown = cirra("server", "show", "web").stdout
    assert "! 10.0.0.5 has not reached the guest yet" in shown
    assert "! the guest uses 192.168.0.9, not 10.0.1.5" in shown
    assert "! the guest has not fetched its metadata yet" in shown


def test_a_fault_comes_with_its_remedy(gateway: FakeGateway, cirra: Cirra) -> None:
    fault = compute.Fault(reason="NO_VALID_HOST", message="none of 3 hosts fits", remedy="add a host")
    gateway.answers("GetInstance", compute.Instance(status=compute.INSTANCE_STATUS_ERROR, fault=fault))
    shown = cirra("server", "show", "web").stdout
    assert "fault:  none of 3 hosts fits (NO_VALID_HOST)" in shown
    assert "remedy: add a host" in shown


def test_a_watch_prints_a_line_for_each_change(gateway: FakeGateway, cirra: Cirra) -> None:
    instance = running_instance()
    changes = [
        compute.WatchInstancesResponse(instance=instance, position=1),
        compute.WatchInstancesResponse(instance=instance, position=2, deleted=True),
    ]
    gateway.answers("WatchInstances", changes)
    first, second = cirra("server", "watch", "web").stdout.splitlines()
    assert "ACTIVE" in first and "10.0.0.5" in first
    assert "DELETED" in second
    lines = cirra("server", "watch", "web", "-o", "json").stdout.splitlines()
    assert [json.loads(line)["display_name"] for line in lines] == ["web", "web"]


def test_a_timeline_is_a_waterfall(gateway: FakeGateway, cirra: Cirra) -> None:
    timeline = events.Timeline(resource="r", trace_id="abc")
    timeline.entries.add(offset_ms=0, title="InstanceCreated", source="conductor")
    timeline.entries.add(offset_ms=0, duration_ms=500, title="claim_host", detail="on host-1", source="placement")
    timeline.entries.add(offset_ms=500, duration_ms=500, title="spawn", source="conductor", failed=True)
    gateway.answers("GetTimeline", timeline)
    result = cirra("timeline", UID)
    created, claim, spawn = result.stdout.splitlines()[2:]
    assert created.split() == ["+0", "ms", "▏", "InstanceCreated", "conductor"]
    bar = "█" * 16
    assert claim.split() == ["+0", "ms", bar, "500", "ms", "claim_host", "on", "host-1", "placement"]
    assert spawn.split() == ["+500", "ms", bar, "500", "ms", "spawn", "conductor"]
    assert spawn.index(bar) == claim.index(bar) + len(bar), "one begins where the other ends"
    assert result.stderr == "trace abc\n"


def test_a_timeline_of_a_servers_name(gateway: FakeGateway, cirra: Cirra) -> None:
    gateway.answers("GetInstance", running_instance())
    gateway.answers("GetTimeline", events.Timeline())
    assert cirra("timeline", "web").exit_code == 0
    assert gateway.requests("GetTimeline")[0].resource == running_instance().name


def test_events_are_decoded(gateway: FakeGateway, cirra: Cirra) -> None:
    event = events.Event(position=3, type="cirra.network.v1.NetworkDeleted", aggregate_type="network")
    event.data.type_url = "type.googleapis.com/cirra.network.v1.NetworkDeleted"
    event.data.value = b"\x0a\x03abc"
    unknown = events.Event(position=4)
    unknown.data.type_url = "type.googleapis.com/cirra.network.v9.Folded"
    unknown.data.value = b"\x01"
    gateway.answers("ListEvents", events.ListEventsResponse(events=[event, unknown]))
    first, second = json.loads(cirra("event", "list", "-o", "json").stdout)
    assert first["data"] == {
        "@type": "cirra.network.v1.NetworkDeleted",
        "project_id": "abc",
        "physical_network": "",
        "type": None,
        "segmentation_id": 0,
    }
    assert second["data"] == {"@type": "cirra.network.v9.Folded", "value": "AQ=="}
    assert "NetworkDeleted" in cirra("event", "list").stdout
    assert "--after 3" in cirra("event", "list", "--limit", "1").stderr


def test_every_kind_has_a_list(gateway: FakeGateway, cirra: Cirra) -> None:
    """Each with one thing in it, whose name is seen."""
    binding = identity.RoleBinding(role=identity.ROLE_MEMBER, project_id="p1")
    answers = {
        "Images": image.ListImagesResponse(images=[image.Image(uid="seen", size_bytes=3 << 20)]),
        "KeyPairs": compute.ListKeyPairsResponse(key_pairs=[compute.KeyPair(uid="seen")]),
        "Networks": network.ListNetworksResponse(networks=[network.Network(uid="seen")]),
        "Subnets": network.ListSubnetsResponse(subnets=[network.Subnet(uid="seen")]),
        "Ports": network.ListPortsResponse(ports=[network.Port(uid="seen")]),
        "Projects": identity.ListProjectsResponse(projects=[identity.Project(uid="seen")]),
        "Users": identity.ListUsersResponse(users=[identity.User(uid="seen", roles=[binding])]),
        "Hosts": placement.ListHostsResponse(hosts=[placement.Host(name="hosts/seen")]),
        "Services": placement.ListServicesResponse(services=[placement.ServiceStatus(service="seen", up=True)]),
    }
    for kind, answer in answers.items():
        gateway.answers(f"List{kind}", answer)
    printed = {
        noun: cirra(noun, "list").stdout
        for noun in ("image", "keypair", "network", "subnet", "port", "project", "user", "host", "service")
    }
    assert all("seen" in text for text in printed.values()), printed
    assert "3.0 MiB" in printed["image"] and "member in p1" in printed["user"] and "UP" in printed["service"]


def test_quotas_are_a_table_with_usage(gateway: FakeGateway, cirra: Cirra) -> None:
    quotas = [identity.Quota(resource="instances", limit=10, usage=3), identity.Quota(resource="vcpus", limit=-1)]
    gateway.answers("GetQuotas", identity.Quotas(name="projects/1/quotas", quotas=quotas))
    lines = cirra("quota", "show").stdout.splitlines()
    assert [line.split() for line in lines[2:]] == [["instances", "10", "3"], ["vcpus", "unlimited", "0"]]
