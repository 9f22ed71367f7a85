"""The initramfs archive, read back field by field from its format's description."""

from __future__ import annotations

import gzip
import stat
from dataclasses import dataclass

from deployment.guests.initramfs import character_device, directory, file, pack, symlink


@dataclass(frozen=True, slots=True)
class Member:
    mode: int
    content: bytes
    device: tuple[int, int]
    owner: tuple[int, int]


def unpack(archive: bytes) -> dict[str, Member]:
    """Reads a gzipped newc archive up to its trailer."""
    data = gzip.decompress(archive)
    members: dict[str, Member] = {}
    position = 0
    while True:
        assert position % 4 == 0
        assert data[position : position + 6] == b"070701"
        numbers = [int(data[position + 6 + 8 * n : position + 14 + 8 * n], 16) for n in range(13)]
        name_start = position + 110
        name = data[name_start : name_start + numbers[11] - 1].decode()
        content_start = (name_start + numbers[11] + 3) // 4 * 4
        if name == "TRAILER!!!":
            assert content_start == len(data)
            return members
        content = data[content_start : content_start + numbers[6]]
        members[name] = Member(numbers[1], content, (numbers[9], numbers[10]), (numbers[2], numbers[3]))
        position = (content_start + numbers[6] + 3) // 4 * 4


def test_every_kind_of_entry_comes_back() -> None:
    members = unpack(
        pack(
            [
                directory("bin"),
                file("bin/tool", b"odd", executable=True),
                file("plain", b"four"),
                symlink("bin/link", "tool"),
                character_device("console", 5, 1),
            ]
        )
    )
    assert list(members) == ["bin", "bin/tool", "plain", "bin/link", "console"]
    assert members["bin"].mode == stat.S_IFDIR | 0o755
    assert members["bin/tool"] == Member(stat.S_IFREG | 0o755, b"odd", (0, 0), (0, 0))
    assert members["plain"] == Member(stat.S_IFREG | 0o644, b"four", (0, 0), (0, 0))
    assert members["bin/link"] == Member(stat.S_IFLNK | 0o777, b"tool", (0, 0), (0, 0))
    assert members["console"] == Member(stat.S_IFCHR | 0o600, b"", (5, 1), (0, 0))


def test_the_same_entries_give_the_same_bytes() -> None:
    entries = [directory("a"), file("a/b", b"content" * 1000)]
    assert pack(entries) == pack(entries)
