"""How values read in the terminal."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_AGO = re.compile(r"-?(\d+)\s*(s|m|h|d|(?:sec(?:ond)?|min(?:ute)?|hour|day)s?)(\s+ago)?", re.IGNORECASE)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration_text(milliseconds: float) -> str:
    """Three figures are enough for a person."""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size_text(octets: int) -> str:
    """In binary units (IEC 80000-13)."""
    size, unit = float(octets), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def parse_time(text: str, now: datetime | None = None) -> datetime:
    """An RFC 3339 time (UTC unless it says otherwise), or how long ago: "10m", "-10m", "10 minutes ago", "now".

    Raises ValueError.
    """
    now = now or datetime.now(UTC)
    if text.strip().lower() == "now":
        return now
    try:
        if ago := _AGO.fullmatch(text.strip()):
            return now - timedelta(**{_UNITS[ago[2][0].lower()]: int(ago[1])})
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{text!r} is no time: give one such as 2026-01-31T12:00:00Z, or 10m for ten minutes ago"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_moment(text: str, now: datetime | None = None) -> datetime | int:
    """A time, as `parse_time` reads it; digits alone are a position of the log. Raises ValueError."""
    if re.fullmatch(r"[0-9]{1,18}", text.strip()):
        if position := int(text):
            return position
        raise ValueError("the log begins at position 1: give a position from there on, or a time")
    return parse_time(text, now)


def parse_pairs(texts: list[str], option: str) -> dict[str, str]:
    """`key=value` of a repeated option. Raises ValueError."""
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise ValueError(f"{option} {text!r}: give key=value")
        pairs[key] = value
    return pairs


def parse_fields(text: str, option: str, names: dict[str, str]) -> dict[str, str]:
    """`key=value,key=value`; *names*: what may be written → what it means. Raises ValueError."""
    try:
        pairs = parse_pairs([part.strip() for part in text.split(",")], option)
    except ValueError as error:
        raise ValueError(f"{option} {text!r}: give key=value,key=value with {', '.join(sorted(names))}") from error
    if unknown := sorted(set(pairs) - set(names)):
        raise ValueError(f"{option} {text!r}: {', '.join(unknown)} is not known; give {', '.join(sorted(names))}")
    return {names[key]: value for key, value in pairs.items()}
