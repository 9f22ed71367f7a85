"""How a person sees why hosts were chosen, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cirra_sdk.cli.output import Column, list_table, pairs_table
from cirra_sdk.cli.plain import enum_text, time_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cirra.placement.v1.decisions_pb2 import PlacementAttempt, PlacementExplanation, PlacementSimulation
    from cirra.placement.v1.scheduling_pb2 import Decision, HostScore

_FILTERS = (
    Column("Filter", lambda result: result.filter),
    Column("Hosts in", lambda result: result.hosts_in, right=True),
    Column("Out", lambda result: result.hosts_out, right=True),
    Column("Removed", lambda result: result.removed or "", right=True),
    Column("Because", lambda result: result.detail),
)
_SIMULATED = (
    Column("Host", lambda host: host.host),
    Column("Servers", lambda host: host.instances, right=True),
)


def explanation_tables(explanation: PlacementExplanation) -> Iterator[RenderableType]:
    """Each attempt: what came of it, the filters, and the weights of the best hosts."""
    yield pairs_table([("Server", explanation.instance.rpartition("/")[2]), ("Attempts", len(explanation.attempts))])
    for attempt in explanation.attempts:
        yield ""
        yield pairs_table(_facts(attempt))
        yield from decision_tables(attempt.decision, chosen=attempt.host)


def _facts(attempt: PlacementAttempt) -> Iterator[tuple[str, object]]:
    asked = attempt.resources
    outcome = enum_text(attempt, "outcome").replace("_", " ").lower()
    yield f"Attempt {attempt.attempt}", f"{outcome} on {attempt.host}" if attempt.host else outcome
    yield "Time", time_text(attempt.time)
    yield "Asked", f"{asked.vcpus} vCPUs, {asked.memory_mib} MiB, {asked.disk_gib} GiB"
    yield "Hosts", attempt.decision.hosts_considered
    if attempt.group.group_id:
        yield "Group", f"{enum_text(attempt.group, 'policy').replace('_', '-').lower()} {attempt.group.group_id}"
    if attempt.message:
        yield "Message", attempt.message
    if attempt.HasField("release_time"):
        yield "Given back", time_text(attempt.release_time)


def decision_tables(decision: Decision, *, chosen: str = "") -> Iterator[RenderableType]:
    """Filters with their counts; the best hosts with their weights, the chosen one marked."""
    if decision.filters:
        yield ""
        yield list_table(decision.filters, _FILTERS)
    if decision.scores:
        yield ""
        yield list_table(decision.scores, list(_score_columns(decision, chosen)))


def _score_columns(decision: Decision, chosen: str) -> Iterator[Column]:
    yield Column("Host", lambda score: f"{score.host} (chosen)" if score.host == chosen else score.host)
    yield Column("Score", lambda score: f"{score.score:.3f}", right=True)
    for name in sorted({name for score in decision.scores for name in score.weights}):
        yield Column(name, _weight(name), right=True)


def _weight(name: str) -> Callable[[HostScore], str]:
    def text(score: HostScore) -> str:
        return f"{score.weights[name]:.3f}" if name in score.weights else ""

    return text


def simulation_tables(simulation: PlacementSimulation) -> Iterator[RenderableType]:
    """How many, where, and why not more."""
    pairs: list[tuple[str, object]] = [
        ("Placed", f"{simulation.placed} of {simulation.asked}"),
        ("Hosts", simulation.hosts_considered),
    ]
    if simulation.refusal_message:
        pairs += [("First refusal", simulation.refusal_message), ("Remedy", simulation.refusal_remedy)]
    yield pairs_table(pairs)
    if simulation.hosts:
        yield ""
        yield list_table(simulation.hosts, _SIMULATED)
    if simulation.HasField("refusal"):
        yield from decision_tables(simulation.refusal)
