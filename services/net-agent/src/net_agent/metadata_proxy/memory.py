"""What guests were answered, to be answered again while the service is away.

An answer is of an instance, by the service's word, and is given again to that one alone: addresses are used again. Who
has an address now is the net-agent's to say, who knows without the control plane.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from net_agent.metadata_proxy.connection import Answer, Question
from net_agent.metadata_proxy.signing import INSTANCE_HEADER

# Of one guest: all documents of both trees, and user data of 64 KiB under several names.
GUEST_OCTETS = 512 * 1024
ALL_OCTETS = 32 * 1024 * 1024
# Beside the body: headers, target, and what holds them.
_OVERHEAD_OCTETS = 1024


@dataclass(slots=True)
class _Guest:
    """The least recently given answer comes first."""

    instance: bytes
    answers: OrderedDict[bytes, Answer] = field(default_factory=OrderedDict)
    octets: int = 0

    def put(self, target: bytes, answer: Answer) -> None:
        self._drop(target)
        self.answers[target] = answer
        self.octets += _octets(answer)
        while self.octets > GUEST_OCTETS:
            self._drop(next(iter(self.answers)))

    def _drop(self, target: bytes) -> None:
        if (answer := self.answers.pop(target, None)) is not None:
            self.octets -= _octets(answer)


def _octets(answer: Answer) -> int:
    return len(answer.body) + _OVERHEAD_OCTETS


class Memory:
    """`who_has`: an address → the instance that has it now; "": nobody that is known."""

    def __init__(self, who_has: Callable[[str], str]) -> None:
        self._who_has = who_has
        # The guest that was longest without an answer comes first.
        self._guests: OrderedDict[str, _Guest] = OrderedDict()
        self._octets = 0

    def note(self, address: str, question: Question, answer: Answer) -> None:
        """What can be read, and says whose it is, is remembered."""
        instance = next((value for name, value in answer.headers if name.lower() == INSTANCE_HEADER.lower()), b"")
        if question.method != b"GET" or answer.status != 200 or not instance:
            return
        guest = self._guests.pop(address, None) or _Guest(instance)
        self._octets -= guest.octets
        if guest.instance != instance:
            guest = _Guest(instance)
        guest.put(question.target, answer)
        self._guests[address] = guest
        self._octets += guest.octets
        while self._octets > ALL_OCTETS:
            _, forgotten = self._guests.popitem(last=False)
            self._octets -= forgotten.octets

    def knows(self, address: str, question: Question) -> bool:
        """Whether somebody with this address was answered that."""
        guest = self._guests.get(address)
        return question.method == b"GET" and guest is not None and question.target in guest.answers

    def recall(self, address: str, question: Question) -> Answer | None:
        """The last answer to this question, if who has the address is whom it was given to."""
        if not self.knows(address, question):
            return None
        guest = self._guests[address]
        return guest.answers[question.target] if guest.instance.decode() == self._who_has(address) else None


class GuestsFile:
    """Who has which address, as the net-agent writes it down: a line for each, address and instance.

    Its folder is opened at once: later, with fewer rights, no path may lead there.
    """

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def who_has(self, address: str) -> str:
        """Read anew each time; that is while the service is away only."""
        try:
            with open(self._name, encoding="ascii", opener=self._open) as file:
                pairs = (line.split() for line in file)
                return next((instance for each, instance in pairs if each == address), "")
        except FileNotFoundError:
            return ""

    def _open(self, name: str, flags: int) -> int:
        return os.open(name, flags, dir_fd=self._folder)
