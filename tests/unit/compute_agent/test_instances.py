"""The state folder: known again, and not mistaken for the empty folder that it is mounted on."""

from __future__ import annotations

from pathlib import Path

import pytest

from compute_agent.instances import DiskInfo, StateFolder
from core.agent.handler import AgentFailure
from core.agent.state_folder import MARKER

ID = "0197a000-0000-7000-8000-00000000aa01"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    folder = tmp_path / "host"
    folder.mkdir()
    return folder


@pytest.fixture
def state(tmp_path: Path, host: Path) -> StateFolder:
    found = StateFolder(tmp_path / "state", host)
    found.initialise()
    return found


def refusal(state: StateFolder) -> AgentFailure:
    with pytest.raises(AgentFailure) as caught:
        state.require()
    assert caught.value.reason == "STATE_FOLDER_MISSING"
    return caught.value


def test_the_first_start_makes_it_and_later_ones_know_it(tmp_path: Path, host: Path, state: StateFolder) -> None:
    state.require()
    marker = (state.path / MARKER).read_text()
    again = StateFolder(tmp_path / "state", host)
    again.initialise()
    again.require()
    assert (state.path / MARKER).read_text() == marker


def test_an_empty_folder_in_its_place_is_refused_and_left_empty(state: StateFolder) -> None:
    state.path.rename(state.path.with_name("unmounted"))
    state.path.mkdir()
    state.initialise()
    assert list(state.path.iterdir()) == []
    assert "mount" in refusal(state).remedy


def test_another_state_folder_is_refused(tmp_path: Path, state: StateFolder) -> None:
    (tmp_path / "host-2").mkdir()
    other = StateFolder(tmp_path / "state-2", tmp_path / "host-2")
    other.initialise()
    state.path.rename(tmp_path / "away")
    other.path.rename(state.path)
    assert "another" in refusal(state).message


def test_nothing_is_ready_before_the_first_start(tmp_path: Path, host: Path) -> None:
    refusal(StateFolder(tmp_path / "state", host))


def test_a_host_that_is_enrolled_anew_adopts_what_is_there(tmp_path: Path, state: StateFolder) -> None:
    marker = (state.path / MARKER).read_text()
    (tmp_path / "host-2").mkdir()
    adopted = StateFolder(state.path, tmp_path / "host-2")
    adopted.initialise()
    adopted.require()
    assert (state.path / MARKER).read_text() == marker


def test_instances_are_folders_named_by_an_id(state: StateFolder) -> None:
    state.instance(ID).create()
    state.image_cache.mkdir()
    (state.instances / "lost+found").mkdir()
    (state.instances / "0197a000-0000-7000-8000-00000000aa02").touch()
    assert state.instance_ids() == {ID}


@pytest.mark.parametrize("text", ["", "..", "../../etc", "_base"])
def test_an_id_is_no_path(state: StateFolder, text: str) -> None:
    with pytest.raises(ValueError, match="UUID"):
        state.instance(text)


def test_disk_info_survives(state: StateFolder) -> None:
    folder = state.instance(ID)
    folder.create()
    assert folder.disk_info() is None
    info = DiskInfo("qcow2", "ab" * 32, "raw", "image-1", 1 << 30, image_cached=True)
    folder.write_disk_info(info)
    assert folder.disk_info() == info


def test_deleting_twice(state: StateFolder) -> None:
    folder = state.instance(ID)
    folder.create()
    folder.console_log.write_text("x")
    folder.delete()
    folder.delete()
    assert not folder.path.exists()


def test_the_consoles_end_reaches_back_over_a_rotation(state: StateFolder) -> None:
    folder = state.instance(ID)
    assert folder.console_tail(10) == b""
    folder.create()
    (folder.path / "console.log.0").write_bytes(b"older ")
    folder.console_log.write_bytes(b"newer")
    assert folder.console_tail(3) == b"wer"
    assert folder.console_tail(8) == b"er newer"
    assert folder.console_tail(100) == b"older newer"
