"""What a test uses for a secret has this in it: so every log of the run can be searched for all of them at once."""

from __future__ import annotations

CANARY = "c4nary-9f27d1"


def planted(secret: str) -> str:
    """The secret, to be recognised wherever it is written."""
    return f"{secret} {CANARY}"
