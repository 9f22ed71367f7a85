"""The `cirra` command, in processes of its own, against a whole cloud: what a newcomer does on the first day."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.harness.cloud import Cloud, Tenant
from tests.integration.sdk.command import Cirra, Watching

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_first_day(cloud: Cloud, cirra: Cirra, tmp_path: Path) -> None:
    """Image, network, server; shown, told of, deleted: each command reads what the one before it wrote."""
    flavor = await cloud.flavor()
    (tmp_path / "setup").write_text("#cloud-config\n")
    made = [
        await cirra("image", "create", "debian", "--file", cloud.disk, "-o", "json"),
        await cirra("network", "create", "lan", "-o", "json"),
        await cirra("subnet", "create", "lan4", "--network", "lan", "--cidr", "192.168.1.0/24", "-o", "json"),
    ]
    assert [(printed.code, printed.stderr) for printed in made] == [(0, "")] * 3
    assert made[0].json["status"] == "ACTIVE"

    wanted = ("--flavor", flavor.display_name, "--image", "debian", "--nic", "net=lan,ip=192.168.1.50")
    created = await cirra("server", "create", "web", *wanted, "--user-data", tmp_path / "setup", "--wait", "-o", "json")
    assert (created.code, created.json["status"]) == (0, "ACTIVE")
    steps = [line.split()[1] for line in created.stderr.splitlines() if "✓" in line]
    assert {"claim_host", "bind_port", "spawn"} <= set(steps)
    assert "instance-create: done in" in created.stderr

    [listed] = (await cirra("server", "list", "-o", "json")).json
    assert (listed["display_name"], listed["nics"][0]["fixed_ip"]) == ("web", "192.168.1.50")
    shown = (await cirra("server", "show", "web")).stdout
    assert "debian (" in shown and "192.168.1.50" in shown
    assert "! the guest has not fetched its metadata yet" in shown, "a simulated guest never does"

    titles = [entry["title"] for entry in (await cirra("timeline", "web", "-o", "json")).json["entries"]]
    assert titles[0] == "InstanceCreated" and {"spawn", "InstanceActivated"} <= set(titles)
    assert "claim_host" in (await cirra("timeline", "web")).stdout
    [operation] = (await cirra("operation", "list", "--target", "web", "-o", "json")).json
    assert (operation["kind"], operation["state"]) == ("instance-create", "SUCCEEDED")
    logged = (await cirra("event", "list", "--resource", "web", "-o", "json", "--limit", "0")).stdout
    assert "cirra.compute.v1.InstanceActivated" in logged and "#cloud-config" not in logged

    refused = await cirra("network", "delete", "lan")
    assert refused.code == 1 and "remedy: " in refused.stderr
    deleted = await cirra("server", "delete", "web", "--wait")
    assert (deleted.code, deleted.stdout) == (0, "")
    assert (await cirra("server", "show", "web")).code == 3
    assert (await cirra("server", "list", "-o", "json")).json == []


async def test_bad_input_is_told_and_leaves_nothing(cloud: Cloud, cirra: Cirra, tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"no disk at all" * 1000)
    image = await cirra("image", "create", "junk", "--file", tmp_path / "junk")
    assert image.code == 1 and "(IMAGE_FORMAT_MISMATCH)" in image.stderr
    assert (await cirra("image", "list", "-o", "json")).json == []

    flavor = await cloud.flavor()
    unknown = await cirra("server", "create", "web", "--flavor", flavor.uid, "--image", "nope", "--network", "nope")
    assert unknown.code == 3
    assert "no image 'nope'" in unknown.stderr and "no network 'nope'" in unknown.stderr

    await cirra("network", "create", "lan")
    subnet = await cirra("subnet", "create", "x", "--network", "lan", "--cidr", "192.168.1.5/24")
    assert subnet.code == 1 and "give 192.168.1.0/24" in subnet.stderr
    assert (await cirra("host", "list")).code == 1, "for administrators"


async def test_a_server_that_no_host_can_take(cloud: Cloud, tenant: Tenant, cirra: Cirra) -> None:
    parts = await tenant.prepare()
    await cloud.admin.quotas.set(tenant.project, {"vcpus": -1})
    huge = await cloud.flavor(vcpus=500)
    wanted = ("--flavor", huge.uid, "--image", parts.image.uid, "--network", parts.network.uid)
    created = await cirra("server", "create", "big", *wanted, "--wait")
    assert (created.code, created.stdout) == (1, "")
    lines = created.stderr.splitlines()
    assert any("✗ claim_host" in line and "NO_VALID_HOST" in line for line in lines)
    assert "(NO_VALID_HOST)" in lines[-2] and lines[-2].startswith("error: ")
    assert lines[-1].startswith("remedy: ")
    shown = (await cirra("server", "show", "big")).stdout
    assert "ERROR" in shown and "fault:  " in shown and "remedy: " in shown
    assert (await cirra("server", "delete", "big", "--wait")).code == 0


async def test_a_server_is_renamed_labelled_locked_stopped_and_rebooted(tenant: Tenant, cirra: Cirra) -> None:
    parts = await tenant.prepare()
    await tenant.boot(parts, "web")
    changed = await cirra("server", "set", "web", "--name", "db", "--property", "a.b=1", "--tag", "blue", "-o", "json")
    assert (changed.json["display_name"], changed.json["metadata"], changed.json["tags"]) == (
        "db",
        {"a.b": "1"},
        ["blue"],
    )
    await cirra("server", "set", "db", "--tag", "red")
    unset = await cirra("server", "unset", "db", "--property", "a.b", "--tag", "blue", "-o", "json")
    assert (unset.json.get("metadata", {}), unset.json["tags"]) == ({}, ["red"])
    assert (await cirra("server", "set", "db")).code == 2

    assert "Locked" in (await cirra("server", "lock", "db", "--reason", "an audit")).stdout
    refused = await cirra("server", "stop", "db")
    assert (refused.code, "an audit" in refused.stderr, "cirra server unlock" in refused.stderr) == (1, True, True)
    assert (await cirra("server", "unlock", "db")).code == 0

    stopped = await cirra("server", "stop", "db", "--wait")
    assert (stopped.code, stopped.stdout, "✓ power_off" in stopped.stderr) == (0, "", True)
    assert "SHUTOFF" in (await cirra("server", "show", "db")).stdout
    refused = await cirra("server", "reboot", "db")
    assert (refused.code, "remedy: start it" in refused.stderr) == (1, True)
    assert (await cirra("server", "reboot", "db", "--hard", "--wait")).code == 0
    assert (await cirra("server", "stop", "db", "--wait", "-o", "json")).json["kind"] == "instance-stop"
    assert (await cirra("server", "start", "db", "--wait")).code == 0
    assert "ACTIVE" in (await cirra("server", "show", "db")).stdout


async def test_a_list_is_watched_and_names_are_completed(tenant: Tenant, cirra: Cirra, watching: Watching) -> None:
    async with watching("network", "list", "--watch", "-o", "json") as lines:
        made = (await cirra("network", "create", "my lan", "-o", "json")).json
        assert json.loads(await lines())["uid"] == made["uid"]
        assert (await cirra("network", "delete", "my lan")).code == 0
        gone = json.loads(await lines())
        assert (gone["uid"], gone["deleted"]) == (made["uid"], True)
    await cirra("network", "create", "your lan")
    offered = await cirra(line="cirra --cloud here server create x --network yo")
    assert (offered.stdout, offered.stderr) == ("your lan\n", "")


async def test_out_into_the_world_and_in(cloud: Cloud, tenant: Tenant, cirra: Cirra) -> None:
    """As docs/cli.md tells it; the provider's network is the administrator's."""
    internet = await cloud.admin.networks.create("internet", external=True)
    await cloud.admin.subnets.create("internet-v4", network=internet, cidr="198.51.100.0/24")
    client = tenant.client
    lan = await client.networks.create("lan")
    await client.subnets.create("lan-v4", network=lan, cidr="192.168.1.0/24")
    web, db = [await client.ports.create(network=lan, display_name=name) for name in ("web", "db")]
    assert (await cirra("router", "create", "edge", "--external-gateway", "internet")).code == 0
    shown = (await cirra("router", "add-interface", "edge", "lan-v4")).stdout
    assert "192.168.1.1" in shown and internet.uid in shown and lan.uid in shown
    taken = (await cirra("floating-ip", "create", "internet", "--port", "web", "-o", "json")).json
    address = taken["floating_ip_address"]
    assert (taken["status"], taken["port"]) == ("ACTIVE", web.uid) and address.startswith("198.51.100.")
    refused = await cirra("router", "clear-gateway", "edge")
    assert refused.code == 1 and "(ROUTER_IN_USE_BY_FLOATING_IP)" in refused.stderr and "remedy: " in refused.stderr
    moved = await cirra("floating-ip", "associate", address, "db", "--move", "-o", "json")
    assert (moved.code, moved.json["port"]) == (0, db.uid)
    assert (await cirra(line="cirra --cloud here floating-ip show 198")).stdout == f"{address}\n"
    changes = (await cirra("audit", address, "-o", "json")).json
    assert [change["method"] for change in changes] == ["CreateFloatingIp", "AssociateFloatingIp"]
    assert (await cirra("floating-ip", "delete", address)).code == 0
