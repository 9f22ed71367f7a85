"""What is told of a log when something failed."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from deployment.complaints import complaints


def _log_line(second: int, level: str, message: str, **more: str) -> str:
    timestamp = f"2026-01-31T12:00:{second:02}.000000Z"
    return json.dumps({"timestamp": timestamp, "level": level, "message": message, **more})


def test_complaints_of_the_time_asked_for_are_told_in_short() -> None:
    traceback = "Traceback (most recent call last):\n  File …\nOSError: no space left"
    log = [
        _log_line(1, "warning", "of an earlier day"),
        "Traceback of the same day",
        _log_line(10, "info", "all is well"),
        _log_line(11, "warning", "rpc failed", error="the database is away", exception=traceback),
        _log_line(12, "error", "no image", exception=traceback),
        "Killed",
    ]
    assert complaints("\n".join(log), datetime(2026, 1, 31, 12, 0, 10, tzinfo=UTC)) == [
        "2026-01-31T12:00:11.000000Z rpc failed: the database is away",
        "2026-01-31T12:00:12.000000Z no image: OSError: no space left",
        "Killed",
    ]


def test_a_complaint_ends_with_what_to_do() -> None:
    line = _log_line(1, "critical", "could not start", error="another version's database", remedy="start that one")
    [told] = complaints(line, datetime(2026, 1, 31, tzinfo=UTC))
    assert told.endswith("could not start: another version's database → start that one")
