"""What the cloud says of an instance, and what the guest says of itself, side by side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cirra.compute.v1.compute_pb2 import Instance
from cirra_sdk import AsyncClient
from core.errors import CirraError
from deployment.demo.guest import Guest
from deployment.demo.userdata import FILE, OUTPUT, UserData
from deployment.guests import GuestKind

SEEN_TIMEOUT_S = 180.0
_SETTLED_TIMEOUT_S = 180.0
_PAUSE_S = 0.25
# Between the answers of one session.
_MARK = "=-=-="


class GuestDiffers(CirraError):
    """The guest is not what was asked for; the message says in what."""

    reason = "GUEST_DIFFERS"


@dataclass(frozen=True, slots=True)
class Question:
    """`script` is run in the guest; its output must hold `expected`."""

    title: str
    script: str
    expected: str


def questions(kind: GuestKind, instance: Instance, data: UserData) -> list[Question]:
    address = instance.nics[0].fixed_ip
    common = [
        Question("hostname", "hostname", instance.hostname),
        Question("address", "ip -4 -o addr show dev eth0 | awk '{print $4}'", f"{address}/"),
        Question(f"written by user data ({FILE})", f"cat {FILE}", data.mark),
        Question(f"left by its command ({OUTPUT})", f"cat {OUTPUT}", data.mark),
    ]
    if kind == "tiny":
        return common
    return [
        Question("cloud-init", "cloud-init status", "done"),
        Question("instance id by cloud-init", "cloud-init query instance_id", instance.uid),
        Question("data source", "cloud-init query cloud_name", "openstack"),
        Question("user data by cloud-init", "sudo cloud-init query userdata | head -n 1", "#cloud-config"),
        *common,
    ]


async def wait_settled(kind: GuestKind, guest: Guest) -> None:
    """Returns when the guest has acted on its user data, well or not. Raises GuestDiffers if that takes too long."""
    deadline = time.monotonic() + _SETTLED_TIMEOUT_S
    while not await _is_settled(kind, guest, deadline - time.monotonic()):
        if time.monotonic() > deadline:
            raise GuestDiffers(f"the guest did not act on its user data within {_SETTLED_TIMEOUT_S:g} s")
        await asyncio.sleep(_PAUSE_S)


async def _is_settled(kind: GuestKind, guest: Guest, timeout_s: float) -> bool:
    if kind == "debian":
        return (await guest.run("cloud-init status --wait >/dev/null; echo settled", timeout_s)).text == "settled\n"
    return (await guest.run(f"test -s {OUTPUT}")).code == 0


async def ask(guest: Guest, questions: Sequence[Question]) -> list[str]:
    """The answers, in one session: each login costs a guest under emulation seconds. Raises GuestDiffers."""
    script = "; ".join(f"echo {_MARK}; {{ {question.script}; }} 2>&1" for question in questions)
    output = await guest.run(script)
    answers = [answer.strip() for answer in output.text.split(_MARK)[1:]]
    if len(answers) != len(questions):
        raise GuestDiffers(f"the guest did not answer: {output.error or output.text}")
    for question, answer in zip(questions, answers, strict=True):
        if question.expected not in answer:
            raise GuestDiffers(f"{question.title}: expected {question.expected!r}, got {answer!r}")
    return answers


async def wait_seen(client: AsyncClient, name: str) -> Instance:
    """The instance once its lease, its address and its fetch of metadata were seen. Raises GuestDiffers."""
    instance = await client.instances.get(name)
    try:
        async with asyncio.timeout(SEEN_TIMEOUT_S):
            while missing := list(_unseen(instance)):
                await asyncio.sleep(_PAUSE_S)
                instance = await client.instances.get(name)
    except TimeoutError as error:
        raise GuestDiffers(f"not seen within {SEEN_TIMEOUT_S:g} s: {', '.join(missing)}") from error
    for nic in instance.nics:
        if not nic.fixed_ip == nic.leased_ip == nic.seen_ip:
            raise GuestDiffers(f"allocated {nic.fixed_ip}, leased {nic.leased_ip}, seen {nic.seen_ip}")
    return instance


def _unseen(instance: Instance) -> Iterator[str]:
    for nic in instance.nics:
        if not nic.leased_ip:
            yield f"the lease of {nic.fixed_ip}"
        if not nic.seen_ip:
            yield f"{nic.fixed_ip} on the network"
    if not instance.HasField("metadata_fetch_time"):
        yield "a fetch of metadata"
