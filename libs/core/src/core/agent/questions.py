"""What an agent is asked to read: an answer for whoever waits right now, and nothing that is changed or stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cirra.agent.v1.desired_pb2 import Answer, Question
from core.agent.handler import AgentFailure
from core.bus import Bus, Poison, Received

Reader = Callable[[Question], Awaitable[Answer]]
"""Reads what a question is about. An `AgentFailure` is an answer, too."""


async def answer(bus: Bus, host: str, agent: str, reader: Reader, received: Received) -> None:
    """Reads, and tells who asked. Raises Poison for another's question; an error of the infrastructure goes to who
    runs the loop, so that the question is read again."""
    question = received.decode(Question)
    if (question.host, question.agent) != (host, agent):
        raise Poison(f"{received.subject}: the question is for {question.agent}@{question.host}")
    try:
        found = await reader(question)
    except AgentFailure as failure:
        found = Answer(failure=failure.to_message())
    await bus.publish_progress(bus.subjects.progress(host, agent, question.question_id), found)
