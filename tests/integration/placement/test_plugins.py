"""Filters and weighers of one's own: the documented example, installed for this test alone, decides with the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[3]
EXAMPLE = REPOSITORY / "docs" / "examples" / "cirra-example-scheduling"
UV = REPOSITORY / ".build" / "uv" / "bin" / "uv"

# Three hosts, one kept for a project, one with a weight; what is decided for that project and for another.
DECIDE = """
import json
from cirra.placement.v1 import placement_pb2 as public, scheduling_pb2 as api
from placement.hosts.table import HostTable
from placement.scheduling.scheduler import FILTERS, WEIGHERS, Scheduler, installed

hosts = HostTable()
hosts.aggregate_metadata = {"vault": {"filter_project_id": "ours, theirs"}, "new": {"weight": "3"}}
for name, aggregates in (("plain", []), ("kept", ["vault"]), ("heavy", ["new"])):
    row = hosts.row(name)
    hosts.set_inventory(row, public.Inventory(virt_types=["simulated"]))
    hosts.set_capacity(row, (8, 8192, 100))
    hosts.aggregates.set(row, aggregates)
    hosts.up[row] = True
scheduler = Scheduler(installed(FILTERS), installed(WEIGHERS))
request = api.ClaimRequest(resources=api.Resources(vcpus=1, memory_mib=512, disk_gib=5))
found = {}
for project in ("ours", "strangers"):
    request.project_id = project
    choice = scheduler.choose(hosts, request)
    found[project] = {
        "hosts": choice.hosts,
        "removed": {each.filter: each.removed for each in choice.decision.filters},
        "weights": dict(choice.decision.scores[0].weights),
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def installed_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example and nothing else: nothing is fetched, and this environment stays as it is."""
    folder = tmp_path_factory.mktemp("packages")
    subprocess.run(
        [
            UV,
            "pip",
            "install",
            "--quiet",
            "--offline",
            "--no-deps",
            "--target",
            folder,
            "--python",
            sys.executable,
            EXAMPLE,
        ],
        check=True,
    )
    return folder


def decided(*folders: Path) -> dict[str, dict[str, Any]]:
    """By a process of its own, which finds the packages of these folders too."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    done = subprocess.run([sys.executable, "-c", DECIDE], env=environment, check=True, capture_output=True, text=True)
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


def test_an_installed_filter_and_weigher_decide(installed_in: Path) -> None:
    found = decided(installed_in)
    ours, strangers = found["ours"], found["strangers"]
    assert ours["hosts"][0] == "heavy" and set(ours["hosts"]) == {"plain", "kept", "heavy"}
    assert ours["removed"]["project_isolation"] == 0
    assert ours["weights"]["aggregate_weight"] == 2.0
    assert strangers["hosts"] == ["heavy", "plain"]
    assert strangers["removed"]["project_isolation"] == 1


def test_without_it_they_are_not_there() -> None:
    found = decided()["strangers"]
    assert set(found["hosts"]) == {"plain", "kept", "heavy"}
    assert "project_isolation" not in found["removed"]
