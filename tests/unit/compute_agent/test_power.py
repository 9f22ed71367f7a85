"""Whether a guest that is off stays off."""

from __future__ import annotations

from pathlib import Path

from compute_agent.handlers.power import PowerRecord


def test_only_its_own_shutdown_keeps_a_guest_down_and_only_until_it_is_wanted_anew(tmp_path: Path) -> None:
    power = PowerRecord(tmp_path)
    assert power.may_start(1, note=False)
    power.note_on(3)
    assert power.may_start(3, note=False)
    power.note_shutdown_by_guest()
    for note in (False, True):
        assert not PowerRecord(tmp_path).may_start(3, note=note)
    assert power.may_start(4, note=False)
    power.note_on(4)
    assert power.may_start(4, note=False)


def test_a_start_is_noted_in_the_place_of_an_earlier_shutdown(tmp_path: Path) -> None:
    power = PowerRecord(tmp_path)
    assert power.may_start(3, note=True)
    power.note_shutdown_by_guest()
    assert power.may_start(4, note=False)
    assert not power.may_start(3, note=False), "nothing was noted"
    assert power.may_start(4, note=True)
    assert power.may_start(3, note=False), "it has run since"


def test_a_shutdown_of_a_guest_that_was_never_made_to_run_says_nothing(tmp_path: Path) -> None:
    power = PowerRecord(tmp_path)
    power.note_shutdown_by_guest()
    assert power.may_start(1, note=False)


def test_without_a_folder_there_is_nothing_to_note(tmp_path: Path) -> None:
    power = PowerRecord(tmp_path / "gone")
    power.note_on(1)
    assert not (tmp_path / "gone").exists()
