from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from core.settings import ServiceSettings, split_address


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIRRA_CELL", "blue")
    monkeypatch.setenv("CIRRA_NATS_URLS", "nats://a:1, nats://b:2,")
    monkeypatch.setenv("CIRRA_TLS_DIRECTORY", "/keys")
    monkeypatch.setenv("CIRRA_SOMETHING_ELSE", "is somebody else's")
    settings = ServiceSettings()
    assert settings.nats_urls == ("nats://a:1", "nats://b:2")
    assert settings.tls_directory == Path("/keys")
    assert settings.schema_name("log") == "blue_log"
    assert settings.replica


@pytest.mark.parametrize(
    ("name", "value"), [("CELL", "Main"), ("CELL", "a-b"), ("LOG_LEVEL", "loud"), ("LOG_FORMAT", "xml")]
)
def test_a_setting_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"CIRRA_{name}", value)
    with pytest.raises(ValidationError):
        ServiceSettings()


def test_addresses_are_split() -> None:
    assert split_address("127.0.0.1:80") == ("127.0.0.1", 80)
    assert split_address("[::1]:443") == ("::1", 443)
    for wrong in ("localhost", ":80", "host:http", ""):
        with pytest.raises(ValueError, match="host:port"):
            split_address(wrong)
