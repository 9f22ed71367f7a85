"""The one error of the guest builder."""

from __future__ import annotations


class GuestBuildError(RuntimeError):
    """A guest image could not be built.

    `problem` says what went wrong, `remedy` what a person can do about it; the message holds both.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}\nRemedy: {remedy}")
        self.problem = problem
        self.remedy = remedy
