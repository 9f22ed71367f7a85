"""What is remembered from one command to the next."""

from __future__ import annotations

from pathlib import Path

from cirra_sdk.state import POSITION_LIFETIME_S, AccessToken, FileMemory

TOKEN = AccessToken("t", expires_at=4600.0, obtained_at=1000.0)


def memory(path: Path, now: float = 1000.0) -> FileMemory:
    return FileMemory(path / "cache" / "dev.json", now=lambda: now)


def test_token_and_position_are_there_again_and_for_the_owner_alone(tmp_path: Path) -> None:
    first = memory(tmp_path)
    first.token = TOKEN
    first.saw(12)
    first.save()

    second = memory(tmp_path)

    assert (second.token, second.position) == (TOKEN, 12)
    file = tmp_path / "cache" / "dev.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_the_highest_position_wins_whoever_saw_it(tmp_path: Path) -> None:
    slow, quick = memory(tmp_path), memory(tmp_path)
    slow.saw(5)
    quick.saw(9)
    quick.save()
    slow.save()
    assert memory(tmp_path).position == 9


def test_an_old_position_is_forgotten_also_when_it_is_high(tmp_path: Path) -> None:
    before = memory(tmp_path)
    before.saw(1_000_000)
    before.save()
    # A backup was restored meanwhile: the log is not there yet.
    after = memory(tmp_path, now=1000.0 + POSITION_LIFETIME_S)
    assert after.position == 0
    after.saw(7)
    after.save()
    assert memory(tmp_path, now=1000.0 + POSITION_LIFETIME_S).position == 7


def test_a_file_that_makes_no_sense_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    for nonsense in (b"", b"{", b"[]", b'{"position": "x", "seen_at": 0, "token": null}'):
        (tmp_path / "cache" / "dev.json").write_bytes(nonsense)
        found = memory(tmp_path)
        assert (found.token, found.position) == (None, 0)
    found.saw(3)
    found.save()
    assert memory(tmp_path).position == 3


def test_a_token_is_fresh_until_shortly_before_its_end() -> None:
    assert TOKEN.is_fresh(now=1000.0)
    assert TOKEN.is_fresh(now=4400.0)
    assert not TOKEN.is_fresh(now=4500.0)


def test_a_clock_that_is_ahead_of_the_clouds_does_not_renew_for_ever() -> None:
    ahead = AccessToken("t", expires_at=4600.0, obtained_at=9000.0)
    assert ahead.is_fresh(now=9100.0)
    assert not ahead.is_fresh(now=9400.0)


def test_a_new_epoch_forgets_the_positions_of_a_lost_history(tmp_path: Path) -> None:
    before = memory(tmp_path)
    before.saw(1_000, 1)
    before.save()
    after = memory(tmp_path)
    assert (after.position, after.epoch) == (1_000, 1)
    after.saw(600, 2)
    assert after.position == 600, "what was seen of epoch 1 may never have been"
    after.saw(1_001, 1)
    after.saw(601, 2)
    assert after.position == 601
    after.save()
    before.save()
    assert memory(tmp_path).position == 601, "the later epoch wins, whoever saves last"
