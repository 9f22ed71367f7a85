"""Which cloud is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from cirra_sdk import ConfigurationError
from cirra_sdk.config import Profile, resolve

CLOUDS = """
clouds:
  dev:
    endpoint: 127.0.0.1:8443
    ca_file: ca.pem
    user: admin
    password: secret
    project: admin
  other:
    endpoint: cloud.example:8443
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".config" / "cirra").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def two_clouds(home: Path) -> Path:
    (home / ".config" / "cirra" / "clouds.yaml").write_text(CLOUDS)
    return home


def test_a_named_cloud_is_taken_as_its_file_has_it(two_clouds: Path) -> None:
    environ = {"CIRRA_ENDPOINT": "elsewhere:1", "CIRRA_USER": "ann", "CIRRA_PASSWORD": "for elsewhere"}
    assert resolve("dev", environ, two_clouds) == Profile(
        endpoint="127.0.0.1:8443",
        ca_file=str(two_clouds / ".config" / "cirra" / "ca.pem"),
        user="admin",
        password="secret",
        project="admin",
        cloud="dev",
    )


def test_arguments_go_before_all(two_clouds: Path) -> None:
    found = resolve("dev", {}, two_clouds, project="demo", user="")
    assert (found.project, found.user) == ("demo", "admin")
    assert resolve("", {"CIRRA_USER": "ann"}, two_clouds, endpoint="x:1") == Profile(endpoint="x:1", user="ann")


def test_the_environment_alone_is_enough(home: Path) -> None:
    environ = {"CIRRA_ENDPOINT": "x:1", "CIRRA_USER": "ann", "CIRRA_PASSWORD": "p", "CIRRA_PROJECT": "demo"}
    assert resolve("", environ, home) == Profile(endpoint="x:1", user="ann", password="p", project="demo")


def test_the_environment_names_a_cloud_and_another_project_in_it(two_clouds: Path) -> None:
    environ = {"CIRRA_CLOUD": "dev", "CIRRA_PROJECT": "demo", "CIRRA_ENDPOINT": "ignored:1"}
    found = resolve("", environ, two_clouds)
    assert (found.endpoint, found.project) == ("127.0.0.1:8443", "demo")


def test_the_only_cloud_needs_no_name(home: Path) -> None:
    file = home / "mine.yaml"
    file.write_text("clouds: {dev: {endpoint: 'x:1'}}")
    assert resolve("", {"CIRRA_CLOUDS_FILE": str(file)}, home).cloud == "dev"


def test_a_password_of_digits_is_a_text(home: Path) -> None:
    file = home / "mine.yaml"
    file.write_text("clouds: {dev: {endpoint: 'x:1', user: yes, password: 0123}}")
    found = resolve("", {"CIRRA_CLOUDS_FILE": str(file)}, home)
    assert (found.user, found.password) == ("yes", "0123")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("clouds: [", "can't be read"),
        ("cloud: {}", "describes no clouds"),
        ("clouds: {dev: {user: ann}}", "has no endpoint"),
        ("clouds: {dev: {endpoint: 'x:1', pasword: p}}", "pasword is nothing that a cloud has"),
    ],
)
def test_a_wrong_file_is_told(home: Path, content: str, complaint: str) -> None:
    file = home / "mine.yaml"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=complaint) as told:
        resolve("", {"CIRRA_CLOUDS_FILE": str(file)}, home)
    assert told.value.remedy


def test_a_file_that_is_named_must_be_there(home: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.yaml can't be read: No such file"):
        resolve("", {"CIRRA_CLOUDS_FILE": str(home / "none.yaml")}, home)


def test_one_of_several_must_be_named(two_clouds: Path) -> None:
    with pytest.raises(ConfigurationError, match="several clouds") as told:
        resolve("", {"CIRRA_CLOUDS_FILE": str(two_clouds / ".config/cirra/clouds.yaml")}, two_clouds)
    assert "dev, other" in told.value.remedy
    with pytest.raises(ConfigurationError, match="no cloud is called 'dve'"):
        resolve("dve", {}, two_clouds)


def test_what_is_remembered_belongs_to_one_user_of_one_cloud(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("-----BEGIN CERTIFICATE-----one authority")
    (tmp_path / "b").write_text("-----BEGIN CERTIFICATE-----another")
    profile = Profile(endpoint="x:1", user="ann", project="demo", ca_file=str(tmp_path / "a"), cloud="dev")
    others = [
        Profile(endpoint="x:2", user="ann", project="demo", ca_file=str(tmp_path / "a"), cloud="dev"),
        Profile(endpoint="x:1", user="bob", project="demo", ca_file=str(tmp_path / "a"), cloud="dev"),
        Profile(endpoint="x:1", user="ann", project="other", ca_file=str(tmp_path / "a"), cloud="dev"),
        # Made anew at the same address: what was seen of the old one means nothing.
        Profile(endpoint="x:1", user="ann", project="demo", ca_file=str(tmp_path / "b"), cloud="dev"),
    ]
    names = {profile.memory_name(), *(other.memory_name() for other in others)}
    assert len(names) == 5 and all(name.startswith("dev-") for name in names)


def test_secrets_are_not_shown() -> None:
    assert "hush" not in repr(Profile(endpoint="x:1", password="hush", token="hush"))
