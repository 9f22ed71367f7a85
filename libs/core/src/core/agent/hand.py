"""A thread for calls that are short, unless a disk hangs.

`asyncio.to_thread` takes 60 µs for what takes three: futures of two sorts, their locks, a pool that thinks about one
more thread. Here it is 30, and 10 where many ask at once.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_Job = Callable[[], None]


class Hand:
    """Does one thing after the other, in the order in which it was asked. Its thread begins with the first of them,
    and ends with this object, or with the process, whatever is under way then."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._began = False
        weakref.finalize(self, self._jobs.put, None)

    def do(self, function: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> asyncio.Future[R]:
        """What it returns or raises. It is done also when nobody waits for it any more."""
        if not self._began:
            self._began = True
            threading.Thread(target=_work, args=(self._jobs,), name=self._name, daemon=True).start()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        self._jobs.put(partial(_do, loop, answer, partial(function, *arguments, **options)))
        return answer


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        job()
        # What it holds may be all that keeps the hand.
        del job


def _do(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[R], function: Callable[[], R]) -> None:
    settle: Callable[[], None]
    try:
        settle = partial(_settle, answer, answer.set_result, function())
    except BaseException as error:
        settle = partial(_settle, answer, answer.set_exception, error)
    with suppress(RuntimeError):  # the loop is closed: nobody waits
        loop.call_soon_threadsafe(settle)


T = TypeVar("T")


def _settle(answer: asyncio.Future[R], settle: Callable[[T], None], outcome: T) -> None:
    if not answer.done():
        settle(outcome)
