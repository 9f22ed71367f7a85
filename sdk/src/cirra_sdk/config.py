"""Which cloud, and as whom: from arguments, the environment, or a profile in a `clouds.yaml`.

A file holds several clouds, as OpenStack's does:

    clouds:
      dev:
        endpoint: 127.0.0.1:8443
        ca_file: ca.pem
        user: admin
        password: …
        project: admin
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from cirra_sdk.errors import ConfigurationError

CLOUDS_FILE = "CIRRA_CLOUDS_FILE"
_PEM = b"-----BEGIN CERTIFICATE-----"
_SYSTEM_FILES = (
    Path("/etc/cirra/clouds.yaml"),
    # Where `make up` leaves the cloud of this machine.
    Path("/var/lib/cirra/dev/clouds.yaml"),
)


@dataclass(frozen=True, slots=True)
class Profile:
    """`endpoint`: host:port; `ca_file`: PEM ("": the system's authorities); `project`: a name or uid."""

    endpoint: str = ""
    ca_file: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    project: str = ""
    token: str = field(default="", repr=False)
    cloud: str = ""

    def authority(self) -> bytes | None:
        """The certificates to trust. Raises ConfigurationError."""
        if not self.ca_file:
            return None
        remedy = "check CIRRA_CA_FILE, or ca_file in clouds.yaml"
        try:
            certificates = Path(self.ca_file).expanduser().read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"the CA file {self.ca_file} can't be read: {error.strerror}", remedy=remedy
            ) from error
        if _PEM not in certificates:
            raise ConfigurationError(f"the CA file {self.ca_file} has no certificate in it (PEM)", remedy=remedy)
        return certificates

    def memory_name(self) -> str:
        """A file name for what is remembered of this cloud as this user: another cloud at its address has another."""
        told = "\0".join((self.endpoint, self.user, self.project, hashlib.sha256(self.authority() or b"").hexdigest()))
        return f"{self.cloud or 'environment'}-{hashlib.sha256(told.encode()).hexdigest()[:16]}.json"


_NAMES = tuple(item.name for item in fields(Profile) if item.name != "cloud")


def resolve(
    cloud: str = "", environ: Mapping[str, str] = os.environ, home: Path | None = None, **given: str
) -> Profile:
    """The profile to use. *given* (`endpoint`, `user`, …) goes before all.

    A *cloud* named is taken as its file has it. Otherwise: CIRRA_CLOUD; or CIRRA_ENDPOINT with its kin; or the one
    cloud that the files name. CIRRA_USER, CIRRA_PASSWORD, CIRRA_PROJECT and CIRRA_TOKEN then go before the file.
    Raises ConfigurationError.
    """
    wanted = {name: value for name, value in given.items() if value}
    told = {name: value for name in _NAMES if (value := environ.get(f"CIRRA_{name.upper()}", ""))}
    if "endpoint" in wanted and not cloud:
        return Profile(**{**told, **wanted})
    if not cloud and "endpoint" in told and not environ.get("CIRRA_CLOUD"):
        return Profile(**{**told, **wanted})
    profile = _named(cloud or environ.get("CIRRA_CLOUD", ""), clouds(environ, home))
    if not cloud:
        kept = {name: value for name, value in told.items() if name not in ("endpoint", "ca_file")}
        profile = replace(profile, **kept)
    return replace(profile, **wanted)


def clouds(environ: Mapping[str, str] = os.environ, home: Path | None = None) -> dict[str, Profile]:
    """All clouds that the files name; of one name, the first file's. Raises ConfigurationError."""
    found: dict[str, Profile] = {}
    for path, missing in _files(environ, home):
        for name, profile in _read(path, missing):
            found.setdefault(name, profile)
    return found


def memory_directory(environ: Mapping[str, str] = os.environ, home: Path | None = None) -> Path:
    """Where tokens and positions are kept between commands (XDG Base Directory Specification)."""
    return Path(environ.get("XDG_CACHE_HOME") or (home or Path.home()) / ".cache") / "cirra"


def _files(environ: Mapping[str, str], home: Path | None) -> Iterator[tuple[Path, tuple[type[OSError], ...]]]:
    """Where clouds are described, and which errors mean that there is nothing to read."""
    if named := environ.get(CLOUDS_FILE):
        yield Path(named).expanduser(), ()
        return
    user = Path(environ.get("XDG_CONFIG_HOME") or (home or Path.home()) / ".config")
    yield user / "cirra" / "clouds.yaml", (FileNotFoundError, NotADirectoryError)
    for path in _SYSTEM_FILES:
        # That of the machine may be for its operators only.
        yield path, (FileNotFoundError, NotADirectoryError, PermissionError)


def _named(cloud: str, known: Mapping[str, Profile]) -> Profile:
    if cloud in known:
        return known[cloud]
    names = ", ".join(sorted(known))
    if cloud:
        raise ConfigurationError(
            f"no cloud is called {cloud!r}", remedy=f"name one of: {names}" if known else "describe it in clouds.yaml"
        )
    if len(known) == 1:
        return next(iter(known.values()))
    if known:
        raise ConfigurationError("there are several clouds", remedy=f"name one with --cloud or CIRRA_CLOUD: {names}")
    raise ConfigurationError(
        "no cloud to talk to",
        remedy="set CIRRA_ENDPOINT and CIRRA_CA_FILE, or describe the cloud in ~/.config/cirra/clouds.yaml",
    )


def _read(path: Path, missing: tuple[type[OSError], ...]) -> Iterator[tuple[str, Profile]]:
    """Each cloud of a file; none when reading it fails with one of *missing*."""
    import yaml

    try:
        # All scalars are texts: a password of digits is no number.
        content = yaml.load(path.read_text(), Loader=yaml.BaseLoader)
    except missing:
        return
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        remedy = "correct the file, or CIRRA_CLOUDS_FILE which names it" if missing == () else "correct the file"
        raise ConfigurationError(f"{path} can't be read: {_why(error)}", remedy=remedy) from error
    described = content.get("clouds") if isinstance(content, dict) else None
    if not isinstance(described, dict):
        raise ConfigurationError(f"{path} describes no clouds", remedy="begin it with `clouds:`, a name, `endpoint:`")
    for name, values in described.items():
        yield str(name), _profile(path, str(name), values)


def _why(error: Exception) -> str:
    """On one line."""
    from yaml import MarkedYAMLError

    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error).replace("\n", " ")


def _profile(path: Path, name: str, values: Any) -> Profile:
    if not isinstance(values, dict) or not values.get("endpoint"):
        raise ConfigurationError(f"cloud {name!r} in {path} has no endpoint", remedy="add `endpoint: host:port`")
    if unknown := sorted(set(values) - set(_NAMES)):
        raise ConfigurationError(
            f"cloud {name!r} in {path}: {', '.join(map(str, unknown))} is nothing that a cloud has",
            remedy=f"use {', '.join(_NAMES)}",
        )
    profile = Profile(cloud=name, **{key: str(value) for key, value in values.items()})
    if profile.ca_file:
        return replace(profile, ca_file=str(path.parent / Path(profile.ca_file).expanduser()))
    return profile
