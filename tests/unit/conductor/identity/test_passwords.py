from __future__ import annotations

import pytest

from conductor.identity.passwords import PasswordCost, Passwords, checked_password
from core.errors import InvalidArgument

CHEAP = PasswordCost(time_cost=1, memory_kib=8, parallelism=1)


async def test_only_the_password_matches_its_hash() -> None:
    passwords = Passwords(CHEAP)
    stored = await passwords.hash("correct horse")
    assert stored.startswith(b"$argon2id$") and b"correct" not in stored
    assert await passwords.verify(stored, "correct horse")
    assert not await passwords.verify(stored, "correct hors")
    assert await passwords.hash("correct horse") != stored, "salted"


@pytest.mark.parametrize("stored", [None, b"", b"not a hash"])
async def test_nobody_and_damage_match_nothing(stored: bytes | None) -> None:
    assert not await Passwords(CHEAP).verify(stored, "correct horse")


@pytest.mark.parametrize("password", [b"", b"1234567", b"x" * 1025, b"\xff" * 10])
def test_bad_passwords_name_the_field(password: bytes) -> None:
    with pytest.raises(InvalidArgument) as caught:
        checked_password("password", password)
    assert [violation.field for violation in caught.value.violations] == ["password"]


def test_length_is_counted_in_characters() -> None:
    assert checked_password("password", "ääääääää".encode()) == "ääääääää"
