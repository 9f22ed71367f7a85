"""What the demo says, and what it gives the guest: the pure parts."""

from __future__ import annotations

from pathlib import Path

import yaml
from cryptography.hazmat.primitives import serialization

from cirra.events.v1.events_pb2 import Timeline, TimelineEntry
from cirra.operations.v1.operations_pb2 import STEP_STATE_RUNNING, STEP_STATE_SUCCEEDED, Operation, OperationStep
from deployment.demo.key import new_key
from deployment.demo.progress import StepTeller, timeline_lines
from deployment.demo.userdata import FILE, OUTPUT, user_data
from deployment.render import duration


def test_cloud_config_is_yaml_that_writes_a_file_and_runs_a_command() -> None:
    data = user_data("debian", "demo-1-abc")
    assert data.text.startswith("#cloud-config\n")
    config = yaml.safe_load(data.text)
    assert config["write_files"] == [{"path": FILE, "content": "demo-1-abc\n"}]
    [[shell, flag, command]] = config["runcmd"]
    assert (shell, flag) == ("sh", "-c") and "demo-1-abc" in command and OUTPUT in command


def test_the_tiny_guest_is_given_a_script() -> None:
    assert user_data("tiny", "m").text.startswith("#!/bin/sh\n")


def test_each_step_is_told_once_when_it_ends() -> None:
    told: list[str] = []
    teller = StepTeller(told.append)
    running = OperationStep(step="spawn", state=STEP_STATE_RUNNING, attempt=1)
    done = OperationStep(step="spawn", state=STEP_STATE_SUCCEEDED, attempt=1, detail="downloaded")
    done.end_time.FromMilliseconds(1500)
    done.start_time.FromMilliseconds(250)
    for step in (running, done, done):
        teller.on_change(Operation(steps=[step]))
    assert [line.split() for line in told] == [["spawn", "done", "1.250", "s", "downloaded"]]


def test_bars_are_drawn_on_the_scale_of_the_steps() -> None:
    entries = [
        TimelineEntry(offset_ms=0, duration_ms=500, title="claim_host", source="conductor"),
        TimelineEntry(offset_ms=500, duration_ms=500, title="spawn", source="conductor"),
        TimelineEntry(offset_ms=60_000, title="PortLeaseSeen", source="net-agent@h"),
    ]
    claim, spawn, lease = timeline_lines(Timeline(entries=entries))
    assert claim.count("█") == spawn.count("█") == 12
    assert claim.index("█") < spawn.index("█") < lease.index("·")
    assert "0.500 s" in spawn and "[net-agent@h]" in lease


def test_a_key_is_private_and_its_public_part_fits_authorized_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "id"
    public = new_key(path, "somebody")
    assert path.stat().st_mode & 0o777 == 0o600
    private = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    own = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    assert public == f"{own.decode()} somebody"


def test_durations_have_two_units_at_most() -> None:
    assert [duration(seconds) for seconds in (9.9, 95, 3_700, 90_000)] == ["9s", "1m35s", "1h1m", "1d1h"]
