"""docs/cli.md tells of every command as the command itself does."""

from __future__ import annotations

from pathlib import Path

from cirra_sdk.cli.reference import reference, with_reference

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"


def test_the_reference_is_that_of_the_commands() -> None:
    page = PAGE.read_text()
    assert with_reference(page) == page, "run: python -m cirra_sdk.cli.reference docs/cli.md"


def test_every_command_and_option_has_help() -> None:
    items = [line.strip() for line in reference() if line.strip().startswith("- `")]
    assert len(items) > 100
    assert [line for line in items if not line.partition("`: ")[2] and "` (required): " not in line] == []
