"""What the rounds came to, as a table at the end of the run."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.chaos.history import Moment
from tests.chaos.rounds import Outcome


@dataclass(slots=True)
class Report:
    rows: list[tuple[str, str, str, str, str, str]] = field(default_factory=list)

    def add(self, victim: str, moment: Moment, outcome: Outcome) -> None:
        self.rows.append(
            (
                victim,
                str(moment),
                str(outcome.active),
                str(outcome.rescheduled),
                str(outcome.adopted),
                f"{outcome.converged_s:.1f}",
            )
        )

    def lines(self) -> list[str]:
        rows = [("victim", "at", "ACTIVE", "rescheduled", "adopted", "seconds to converge"), *self.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
