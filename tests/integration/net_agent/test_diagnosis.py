"""The question for a port's path, asked on the bus, and answered by the whole net-agent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from cirra.agent.v1.desired_pb2 import Answer, Question
from cirra.agent.v1.diagnosis_pb2 import PATH_HOP_STATE_BROKEN, PATH_HOP_STATE_UNKNOWN, PortPath
from core.bus import publish_command
from net_agent.diagnosis.probe.voice import devices
from tests.contract.network.hosts import LinuxHost, make_network, make_port
from tests.integration.agent.world import HOST, World, until
from tests.integration.net_agent.agent import NetAgentProcess, command, know_the_open_group, wish
from tests.integration.net_agent.test_agent import linux, observed

__all__ = ["linux"]


async def ask(world: World, port_id: str, **wanted: object) -> Answer:
    """As the conductor does."""
    question = Question(question_id=str(uuid4()), host=HOST, agent="net")
    question.path.CopyFrom(PortPath(port_id=port_id, **wanted))  # type: ignore[arg-type]
    heard: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    async def hear(message: object) -> None:
        if not heard.done():
            heard.set_result(Answer.FromString(message.data))  # type: ignore[attr-defined]

    subject = world.bus.subjects.progress(HOST, "net", question.question_id)
    subscription = await world.bus.subscribe(subject, hear)
    try:
        await publish_command(world.bus, HOST, "net", "DiagnosePath", question.question_id, question)
        async with asyncio.timeout(60):
            return await heard
    finally:
        await subscription.unsubscribe()


def reasons(world: World) -> set[str]:
    """Of the faults that the host has told last."""
    told = [report.faults.faults for report, _ in world.reports if report.HasField("faults")]
    return {fault.failure.reason for fault in told[-1]} if told else set()


@pytest.mark.root
async def test_a_walk_is_answered_and_leaves_nothing(world: World, linux: LinuxHost) -> None:
    host_namespace = str(linux.namespaces.path(linux.name))
    agent = NetAgentProcess(world, linux.folder, driver="linux", host_namespace=host_namespace, probe_interval_s="0.2")
    port = make_port(make_network(), 11)
    await linux.command("ip", "link", "add", "leftover", "type", "veth", "peer", "name", "leftover1")
    await linux.command("ip", "link", "set", "leftover", "alias", f"cirra:probe:{port.port_id}")
    await agent.start()
    try:
        await know_the_open_group(world)
        await command(world, wish(port, 1))
        await observed(world, port.port_id, 1)
        guest = await linux.guest(port)
        assert await guest.dhcp() is not None
        path = (await ask(world, port.port_id, capture=True)).path
        # There is no metadata service in this world.
        broken = [hop for hop in path.hops if hop.state == PATH_HOP_STATE_BROKEN]
        assert [(hop.name, hop.reason) for hop in broken] == [("metadata", "METADATA_SERVICE_AWAY")], path
        assert {trace.probe for trace in path.traces} >= {"DHCPDISCOVER", "DNS for guest-11.novalocal"}
        links = await linux.command("ip", "-o", "link")
        for name in ("leftover", *devices(f"{port.port_id} {port.device}")):
            assert name not in links
        # Several who ask at once are all answered.
        asked = await asyncio.gather(*(ask(world, port.port_id) for _ in range(3)))
        assert all(len(answer.path.hops) == len(path.hops) for answer in asked)
        stranger = await ask(world, str(uuid4()))
        assert stranger.failure.reason == "PORT_NOT_HERE" and stranger.failure.remedy
        # What the host's own rules eat is told without anybody asking.
        assert "HOST_FILTER_REJECTS" not in reasons(world)
        await linux.command("iptables-nft", "-A", "FORWARD", "-j", "REJECT")
        await until(lambda: "HOST_FILTER_REJECTS" in reasons(world), "a condition of the host")
        await linux.command("iptables-nft", "-F", "FORWARD")
        await until(lambda: "HOST_FILTER_REJECTS" not in reasons(world), "its end")
    finally:
        await agent.stop()


async def test_a_simulated_host_says_that_there_is_nothing_to_walk_on(world: World, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    agent = NetAgentProcess(world, state, driver="simulated")
    await agent.start()
    try:
        [hop] = (await ask(world, str(uuid4()))).path.hops
        assert (hop.state, hop.reason) == (PATH_HOP_STATE_UNKNOWN, "SIMULATED")
    finally:
        await agent.stop()
