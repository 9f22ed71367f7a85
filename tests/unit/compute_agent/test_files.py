"""Files that are whole or absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compute_agent.files import Write, write_atomically, write_in_place


@pytest.mark.parametrize("write", [write_atomically, write_in_place])
def test_a_file_holds_what_was_written_last_and_no_draft_stays(tmp_path: Path, write: Write) -> None:
    file = tmp_path / "note"
    for text in ("one", "another, and a longer one", "short"):
        write(file, text)
        assert file.read_text().rstrip() == text
    assert os.listdir(tmp_path) == ["note"]


def test_a_file_in_place_stays_the_same_file_and_is_never_shorter(tmp_path: Path) -> None:
    """Whoever reads it between two calls of the system finds a whole text: nothing was cut off before."""
    file = tmp_path / "note"
    write_in_place(file, "the first text")
    first = os.stat(file)
    write_in_place(file, "the 2nd")
    assert os.stat(file).st_ino == first.st_ino
    assert os.stat(file).st_size == first.st_size


def test_a_new_file_in_place_is_never_seen_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash before its text is written leaves none by its name."""

    def die(descriptor: int, content: bytes) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", die)
    with pytest.raises(KeyboardInterrupt):
        write_in_place(tmp_path / "note", "text")
    assert not (tmp_path / "note").exists()


def test_a_draft_left_by_a_crash_is_no_part_of_what_follows(tmp_path: Path) -> None:
    (tmp_path / "note.new").write_text("what was never finished, and was longer")
    write_in_place(tmp_path / "note", "text")
    assert (tmp_path / "note").read_text().rstrip() == "text"
