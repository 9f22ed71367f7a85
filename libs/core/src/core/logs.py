"""Logs: structlog, as JSON lines or for a terminal, on standard error.

Every line carries the service, the replica, and, where there is one, the trace, span and correlation id. The
standard library's loggers go the same way. Values of keys that name a secret never reach the output.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, TextIO

import structlog
from google.protobuf.message import Message
from opentelemetry import trace

from core.settings import ServiceSettings
from core.telemetry import correlation_id

REDACTED = "[redacted]"
_SENSITIVE_WORDS = ("password", "token", "secret", "user_data", "private_key", "authorization", "master_key")
# They name a place in a list, not a secret.
_HARMLESS_KEYS = frozenset({"page_token", "next_page_token", "fencing_token"})
# Libraries whose information is about themselves, not about us.
_QUIET_LOGGERS = ("asyncio", "httpx", "httpcore", "nats", "urllib3", "grpc")

EventDict = MutableMapping[str, Any]

# One for all: making an encoder takes longer than a line does.
_encode = json.JSONEncoder(default=str).encode


def configure(service: str, settings: ServiceSettings, *, stream: TextIO | None = None) -> None:
    """Route structlog and `logging` to *stream* (default: standard error) in the format that the settings name."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Origin(service, settings.replica),
        add_trace,
        redact_sensitive,
        structlog.processors.StackInfoRenderer(),
    ]
    renderers = _renderers(settings.log_format)
    output = stream or sys.stderr
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=partial(_Lines, output),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.PositionalArgumentsFormatter(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    # Nobody is told which file, thread or process a line is from: looking for that takes longer than the line
    # (https://docs.python.org/3/howto/logging.html#optimization).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


class _Lines:
    """Where structlog's lines go, past `logging`, which takes longer for one than all else that makes it."""

    def __init__(self, stream: TextIO, name: str = "") -> None:
        self.name = name
        self._stream = stream

    def write(self, line: str) -> None:
        """What can't be written is lost, as in `logging`: it must not be the failure of whoever tells of something."""
        with suppress(OSError, ValueError):
            # In one call: others write as well.
            self._stream.write(f"{line}\n")
            self._stream.flush()

    debug = info = warning = error = critical = write


def add_trace(logger: Any, method: str, event: EventDict) -> EventDict:
    """A structlog processor: the ids of the current span and request."""
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"] = f"{span.trace_id:032x}"
        event["span_id"] = f"{span.span_id:016x}"
    if correlation := correlation_id():
        event.setdefault("correlation_id", correlation)
    return event


def redact_sensitive(logger: Any, method: str, event: EventDict) -> EventDict:
    """A structlog processor: hides values whose key names a secret, at any depth.

    A protobuf message is shown by its type alone: what is secret in it is known to `core.sealing`, not here.
    """
    for key, value in event.items():
        event[key] = REDACTED if is_sensitive_key(key) else _redacted(value)
    return event


@lru_cache(maxsize=4096)
def is_sensitive_key(key: str) -> bool:
    """Whether a value of this name must not be shown: "password", "nats_token", "X-Secret-Key", …"""
    normal = key.lower().replace("-", "_")
    return normal not in _HARMLESS_KEYS and any(word in normal for word in _SENSITIVE_WORDS)


def _redacted(value: Any) -> Any:
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, Message):
        return f"<{value.DESCRIPTOR.full_name}>"
    if isinstance(value, Mapping):
        return {key: REDACTED if is_sensitive_key(str(key)) else _redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item) for item in value]
    return value


class _Origin:
    """A structlog processor: which service and replica speaks."""

    def __init__(self, service: str, replica: str) -> None:
        self._service = service
        self._replica = replica

    def __call__(self, logger: Any, method: str, event: EventDict) -> EventDict:
        event["service"] = self._service
        event["replica"] = self._replica
        return event


def _serialise(event: EventDict, **options: Any) -> str:
    """What JSON has no words for is told as Python has it: a line must not be the failure of what it tells of."""
    try:
        return _encode(event)
    except (TypeError, ValueError, RecursionError):
        return _encode({key: value if isinstance(value, str) else repr(value) for key, value in event.items()})


def _renderers(log_format: str) -> list[structlog.types.Processor]:
    if log_format == "console":
        # Plain: a traceback with local variables would show payloads, secrets among them.
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    return [
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        structlog.processors.JSONRenderer(serializer=_serialise),
    ]
