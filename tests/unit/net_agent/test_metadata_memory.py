"""What a metadata proxy remembers, and to whom it tells it."""

from __future__ import annotations

import os
from pathlib import Path

from core import eui64
from core.ids import uuid7
from net_agent.drivers.linux.proxy import guests_of
from net_agent.metadata_proxy import memory
from net_agent.metadata_proxy.connection import Answer, Question
from net_agent.metadata_proxy.memory import GuestsFile, Memory
from tests.unit.net_agent.samples import make_port

ADDRESS, INSTANCE, ANOTHER = "10.0.0.5", str(uuid7()), str(uuid7())


def question(target: bytes = b"/latest/user-data", method: bytes = b"GET") -> Question:
    return Question(method, target, [], b"")


def answer(body: bytes = b"secret", instance: str = INSTANCE, status: int = 200) -> Answer:
    headers = [(b"Content-Type", b"text/plain"), *([(b"x-cirra-instance", instance.encode())] if instance else [])]
    return Answer(status, b"OK", headers, body)


def test_the_last_answer_is_given_again() -> None:
    held = Memory(lambda address: INSTANCE if address == ADDRESS else "")
    assert held.recall(ADDRESS, question()) is None and not held.knows(ADDRESS, question())
    for body in (b"first", b"second"):
        held.note(ADDRESS, question(), answer(body))
    assert held.knows(ADDRESS, question())
    assert held.recall(ADDRESS, question()) == answer(b"second")
    assert held.recall(ADDRESS, question(b"/latest")) is None
    assert held.recall("10.0.0.6", question()) is None


def test_it_is_given_to_no_other_instance() -> None:
    """Neither to the next one with the address, nor to one of which nobody knows whose the address is."""
    owners = {ADDRESS: INSTANCE}
    held = Memory(owners.__getitem__)
    held.note(ADDRESS, question(), answer())
    for owner in (ANOTHER, ""):
        owners[ADDRESS] = owner
        assert held.recall(ADDRESS, question()) is None
    held.note(ADDRESS, question(b"/latest"), answer(b"another's", ANOTHER))
    owners[ADDRESS] = INSTANCE
    assert held.recall(ADDRESS, question()) is None, "what the former had is forgotten when the next one is answered"


def test_what_is_not_to_be_read_again_is_not_remembered() -> None:
    held = Memory(lambda address: INSTANCE)
    held.note(ADDRESS, question(method=b"PUT"), answer())
    held.note(ADDRESS, question(), answer(status=404))
    held.note(ADDRESS, question(), answer(instance=""))
    assert held.recall(ADDRESS, question()) is None
    assert held.recall(ADDRESS, question(method=b"PUT")) is None


def test_one_guest_has_so_much_room_and_no_more() -> None:
    held = Memory(lambda address: INSTANCE)
    body = bytes(memory.GUEST_OCTETS // 4)
    for number in range(8):
        held.note(ADDRESS, question(b"/%d" % number), answer(body))
    known = [number for number in range(8) if held.knows(ADDRESS, question(b"/%d" % number))]
    assert known == [5, 6, 7]
    held.note(ADDRESS, question(b"/large"), answer(bytes(memory.GUEST_OCTETS)))
    assert not held.knows(ADDRESS, question(b"/large"))


def test_all_of_them_have_so_much_room_and_no_more() -> None:
    held = Memory(lambda address: INSTANCE)
    body = bytes(memory.GUEST_OCTETS // 2)
    count = 2 * memory.ALL_OCTETS // len(body)
    for number in range(count):
        held.note(str(number), question(), answer(body))
    known = [number for number in range(count) if held.knows(str(number), question())]
    assert known and known == list(range(known[0], count)), "who asked last"
    assert len(known) * len(body) <= memory.ALL_OCTETS


def test_who_has_an_address_is_read_anew_each_time(tmp_path: Path) -> None:
    path = tmp_path / "guests"
    file = GuestsFile(path)
    assert file.who_has(ADDRESS) == ""
    for instance in (INSTANCE, ANOTHER):
        new = tmp_path / "new"
        new.write_text(f"10.0.0.55 {uuid7()}\n{ADDRESS} {instance}\n")
        os.replace(new, path)
        assert file.who_has(ADDRESS) == instance
        assert file.who_has("10.0.0.6") == ""


def test_guests_are_known_by_all_that_they_ask_from(tmp_path: Path) -> None:
    ports = [
        make_port(11, instance_id=INSTANCE),
        make_port(12, instance_id=ANOTHER, active=False),
        make_port(13, instance_id=""),
    ]
    own = [str(each) for each in (*ports[0].addresses, eui64.address_of_mac(eui64.LINK_LOCAL, ports[0].mac_address))]
    (tmp_path / "guests").write_text(guests_of(ports))
    file = GuestsFile(tmp_path / "guests")
    assert [file.who_has(address) for address in own] == [INSTANCE, INSTANCE]
    assert file.who_has(str(ports[1].addresses[0])) == "", "it runs elsewhere"
    assert guests_of(ports).count("\n") == len(own)
