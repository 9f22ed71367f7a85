from __future__ import annotations

import pytest

from conductor.compute.console import last_lines


@pytest.mark.parametrize(
    ("output", "lines", "shown"),
    [
        (b"", 0, ""),
        (b"", 3, ""),
        (b"a\nb\nc\n", 0, "a\nb\nc\n"),
        (b"a\nb\nc\n", 1, "c\n"),
        (b"a\nb\nc", 1, "c"),
        (b"a\nb\nc", 2, "b\nc"),
        (b"a\nb\n", 9, "a\nb\n"),
        (b"\n\n", 1, "\n"),
        (b"a\r\nb\x1b[0m\r\n", 1, "b\x1b[0m\r\n"),
        (b"\xff\n", 1, "\ufffd\n"),
    ],
)
def test_last_lines(output: bytes, lines: int, shown: str) -> None:
    assert last_lines(output, lines) == shown
