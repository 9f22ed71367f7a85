"""How `cirra-deploy` ends when something is wrong: a line that says what, a line that says what to do."""

from __future__ import annotations

import pytest

from core.errors import CirraError
from deployment.cli import clear_errors
from deployment.settings import DeploySettings


def test_an_error_is_told_with_its_remedy_and_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, clear_errors():
        raise CirraError("the disk is full", remedy="free some")
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: the disk is full\n→ free some\n"


def test_who_interrupts_is_told_that_the_cloud_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, clear_errors():
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert "make down" in capsys.readouterr().err


def test_a_variable_that_is_wrong_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIRRA_ADDRESS", "nonsense")
    with pytest.raises(SystemExit) as ended, clear_errors():
        DeploySettings()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("error: CIRRA_ADDRESS: Input is not a valid IPv4 address\n→ ")
