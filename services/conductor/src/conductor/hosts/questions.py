"""Asking a host for what only it can read, such as the output of a guest's console."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from uuid import uuid4

from nats.aio.msg import Msg

from cirra.agent.v1 import desired_pb2 as agent
from conductor.hosts.desired_state import DesiredState
from core.bus import Bus, publish_command
from core.errors import CirraError, Unavailable

# An answer is lost when the agent or a NATS server ends in that moment: it is asked again.
TIMES = 3
PATIENCE_S = 2.5

_VERBS = {"console": "ReadConsole", "path": "DiagnosePath"}


class Questions:
    """Asks the agents of hosts, for an answer at once or none."""

    def __init__(self, bus: Bus, desired_state: DesiredState) -> None:
        self._bus = bus
        self._desired_state = desired_state

    async def ask(
        self,
        host: str,
        agent_name: str,
        question: agent.Question,
        *,
        times: int = TIMES,
        patience_s: float = PATIENCE_S,
    ) -> agent.Answer:
        """`question`: what it is about. `patience_s`: for an answer, each time. Raises Unavailable (HOST_DOWN,
        HOST_SILENT), and as the host says that it can't tell."""
        if (await self._desired_state.standing(host)).down:
            raise Unavailable(
                f"{host} is down: it can't be asked",
                reason="HOST_DOWN",
                retryable=False,
                remedy="see cirra host list, and try again when it is up",
            )
        asked = agent.Question()
        asked.CopyFrom(question)
        asked.question_id, asked.host, asked.agent = str(uuid4()), host, agent_name
        answer = await self._answer(asked, times, patience_s)
        if answer.HasField("failure"):
            failure = answer.failure
            raise CirraError(f"{host}: {failure.message}", reason=failure.reason, remedy=failure.remedy)
        return answer

    async def _answer(self, asked: agent.Question, times: int, patience_s: float) -> agent.Answer:
        heard: asyncio.Future[agent.Answer] = asyncio.get_running_loop().create_future()

        async def hear(message: Msg) -> None:
            if not heard.done():
                heard.set_result(agent.Answer.FromString(message.data))

        verb = _VERBS[str(asked.WhichOneof("about"))]
        subject = self._bus.subjects.progress(asked.host, asked.agent, asked.question_id)
        subscription = await self._bus.subscribe(subject, hear)
        try:
            for _ in range(times):
                await publish_command(
                    self._bus, asked.host, asked.agent, verb, asked.question_id, asked, retry_for_s=patience_s
                )
                with suppress(TimeoutError):
                    async with asyncio.timeout(patience_s):
                        return await asyncio.shield(heard)
        finally:
            await subscription.unsubscribe()
        raise Unavailable(
            f"{asked.host} does not answer",
            reason="HOST_SILENT",
            retryable=False,
            remedy=f"look at its {asked.agent}-agent: cirra service list, and its log",
        )
