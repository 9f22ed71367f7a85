"""What guests wrote to their serial consoles: their hosts have it, and are asked."""

from __future__ import annotations

from cirra.agent.v1 import desired_pb2 as agent
from cirra.compute.v1 import compute_pb2 as public
from conductor.compute.instance import Instance
from conductor.fields import Fields
from conductor.hosts.questions import Questions
from core.errors import FailedPrecondition

# As nova's.
MAX_BYTES = 100 * 1024
MAX_LINES = 1_000_000


def check(request: public.GetConsoleOutputRequest) -> None:
    fields = Fields()
    fields.between("lines", request.lines, 0, MAX_LINES)
    fields.check()


async def console_output(questions: Questions, instance: Instance, lines: int) -> public.ConsoleOutput:
    """The last lines; 0: all that there is, of the last `MAX_BYTES`. Raises FailedPrecondition, Unavailable."""
    if not instance.host:
        raise FailedPrecondition(
            f"instance {instance.id} is on no host: it has no console",
            reason="NO_CONSOLE",
            remedy="delete it: it was never built" if instance.erred else "wait until it is built: cirra server show",
        )
    question = agent.Question(console=agent.ConsoleTail(instance_id=str(instance.id), max_bytes=MAX_BYTES))
    answer = await questions.ask(instance.host, "compute", question)
    return public.ConsoleOutput(name=instance.resource_name, output=last_lines(answer.console, lines))


def last_lines(output: bytes, lines: int) -> str:
    """As text; a line that is cut at its beginning counts as one. 0: all."""
    kept = output.decode(errors="replace").split("\n")
    # What ends with a line end has no line after it.
    tail = kept.pop() if kept[-1] == "" else None
    if lines:
        kept = kept[-lines:]
    return "\n".join(kept if tail is None else [*kept, tail])
