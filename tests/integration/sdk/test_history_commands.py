"""How it was, what changed, who did it: by the command, against a whole cloud."""

from __future__ import annotations

import pytest

from tests.harness.cloud import Cloud, Tenant
from tests.integration.sdk.command import Cirra

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_what_was_what_changed_and_who_did_it(cloud: Cloud, tenant: Tenant, cirra: Cirra) -> None:
    parts = await tenant.prepare()
    wanted = ("--flavor", parts.flavor.uid, "--image", parts.image.uid, "--network", parts.network.uid)
    created = (await cirra("server", "create", "web", *wanted, "--wait", "-o", "json")).json
    listed = (await cirra("event", "list", "--resource", "web", "-o", "json", "--limit", "0")).json
    begin, end = listed[0]["position"], listed[-1]["position"]

    then = await cirra("server", "show", "web", "--as-of", str(begin), "-o", "json")
    assert (then.json["status"], created["status"]) == ("BUILD", "ACTIVE"), then.stderr
    assert (await cirra("get", "web", "--as-of", str(begin), "-o", "json")).json == then.json
    assert (await cirra("get", parts.network.display_name, "-o", "json")).json["uid"] == parts.network.uid
    for thing in (parts.network, parts.subnet, parts.image, tenant.project):
        entries = (await cirra("timeline", thing.uid, "-o", "json")).json["entries"]
        assert entries[0]["title"] == f"{type(thing).__name__}Created"

    diff = (await cirra("diff", "web", "--from", str(begin), "--to", str(end), "-o", "json")).json
    assert {"field": "status", "before": "BUILD", "after": "ACTIVE"} in diff["changes"]
    told = [event["type"].rpartition(".")[2] for event in diff["events"]]
    assert "InstanceActivated" in told and "InstanceCreated" not in told and "PortBindingObserved" in told

    asked = await cirra("audit", "-o", "json")
    methods = [request["method"] for request in asked.json]
    deleted = await cirra("audit", "--method", "delete*", "-o", "json")
    only = await cirra("audit", "--method", "CreateInstance", "--actor", tenant.user.uid, "-o", "json")
    until = await cirra("audit", "--until", str(begin - 1), "-o", "json")
    assert deleted.json == [] and [request["method"] for request in only.json] == ["CreateInstance"]
    assert {request["method"] for request in until.json} == set(methods) - {"CreateInstance"}
    assert methods[-1] == "CreateInstance" and {"CreateNetwork", "CreateSubnet", "CreateImage"} <= set(methods)
    last = asked.json[-1]
    assert (last["user"], last["aggregate_id"]) == (tenant.user.display_name, created["uid"])
    assert "InstanceCreated" in last["events"] and "InstanceActivated" not in last["events"]
    assert (await cirra("audit", "web", "-o", "json")).json[-1]["method"] == "CreateInstance"
    by_me = [request for request in asked.json if request["user"] == tenant.user.display_name]
    assert (await cirra("audit", "--actor", tenant.user.display_name, "-o", "json")).json == by_me != asked.json

    stranger = await cloud.tenant()
    assert (await cirra("audit", "--project", stranger.project.uid)).code == 3
    assert (await cirra("server", "delete", "web", "--wait")).code == 0
    gone = (await cirra("get", created["uid"], "--as-of", str(end), "-o", "json")).json
    assert gone["status"] == "ACTIVE"
    now = await cirra("get", created["uid"])
    assert now.code == 3 and "remedy: give another time" in now.stderr
    assert (await cirra("diff", created["uid"], "--from", str(end))).stderr.startswith("it does not exist any more")
