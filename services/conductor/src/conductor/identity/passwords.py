"""Passwords, kept as Argon2id hashes (RFC 9106)."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from core.errors import FieldViolation, InvalidArgument

MIN_LENGTH = 8
MAX_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class PasswordCost:
    """The default is RFC 9106's second recommended option, for memory-constrained environments."""

    time_cost: int = 3
    memory_kib: int = 64 * 1024
    parallelism: int = 4


class Passwords:
    """Hashes and verifies in threads, as many at a time as there are processors: each takes its memory."""

    def __init__(self, cost: PasswordCost = PasswordCost()) -> None:
        self._hasher = PasswordHasher(cost.time_cost, cost.memory_kib, cost.parallelism)
        self._slots = asyncio.Semaphore(os.cpu_count() or 1)
        # Verified when there is no such user: that takes as long as for one that there is.
        self._nobody = self._hasher.hash(os.urandom(16)).encode()

    async def hash(self, password: str) -> bytes:
        """In PHC string format."""
        async with self._slots:
            return (await asyncio.to_thread(self._hasher.hash, password)).encode()

    async def verify(self, password_hash: bytes | None, password: str) -> bool:
        """Whether it is the password; False for no hash (None or empty), after the same time."""
        async with self._slots:
            matches = await asyncio.to_thread(self._matches, password_hash or self._nobody, password)
        return matches and bool(password_hash)

    def _matches(self, password_hash: bytes, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False


def checked_password(field: str, password: bytes) -> str:
    """The password of a request. Raises InvalidArgument unless it is UTF-8 and 8 to 1024 characters long."""
    try:
        text = password.decode()
    except UnicodeDecodeError:
        raise InvalidArgument(FieldViolation(field, "it is not UTF-8")) from None
    if not MIN_LENGTH <= len(text) <= MAX_LENGTH:
        raise InvalidArgument(FieldViolation(field, f"give {MIN_LENGTH} to {MAX_LENGTH} characters"))
    return text
