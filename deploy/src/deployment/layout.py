"""Where a deployment on one machine keeps its things: everything is below one folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_ROOT = Path("/var/lib/cirra/dev")


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of the files and folders below `root`, which belongs to root alone (mode 0700)."""

    root: Path

    # What is decided once and kept.

    @property
    def record(self) -> Path:
        """`config.Config` as JSON."""
        return self.root / "deployment.json"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def authority(self) -> Path:
        """The certificate authority, with its key."""
        return self.root / "authority"

    @property
    def nats_keys(self) -> Path:
        """The keys of NATS's operator and accounts."""
        return self.root / "nats-keys"

    @property
    def host_signer(self) -> Path:
        """What the conductor signs hosts' NATS identities with: the keys of account HOSTS, and no other."""
        return self.root / "host-signer"

    def tls(self, service: str) -> Path:
        return self.root / "tls" / service

    def nats_credentials(self, service: str) -> Path:
        return self.root / "nats-credentials" / f"{service}.creds"

    @property
    def clouds(self) -> Path:
        """For the `cirra` command: endpoint, authority, user."""
        return self.root / "clouds.yaml"

    # Data.

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def nats(self) -> Path:
        return self.root / "nats"

    @property
    def blobs(self) -> Path:
        """Contents of images."""
        return self.root / "blobs"

    @property
    def host(self) -> Path:
        """The identity of this host, made by enrolment."""
        return self.root / "host"

    @property
    def hosts(self) -> Path:
        """Of a testbed: a folder for each host, its disk; below it the layout is this one again."""
        return self.root / "hosts"

    @property
    def agent_state(self) -> Path:
        """What the agents make on this host: guests' folders, networks' files, volumes."""
        return self.root / "state"

    @property
    def networks(self) -> Path:
        """The net-agent's: a folder for each network that it has wired here."""
        return self.agent_state / "networks"

    @property
    def libvirt(self) -> Path:
        """The private libvirtd; its name is short, as the path of a unix socket must be."""
        return self.root / "libvirt"

    # What is only of interest while it runs, or afterwards to a reader.

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def status(self) -> Path:
        """`status.Status` as JSON, kept up to date by the supervisor."""
        return self.run / "status.json"

    @property
    def lock(self) -> Path:
        """Held (flock(2)) by the supervisor as long as it lives."""
        return self.run / "supervisor.lock"

    def pid_file(self, process: str) -> Path:
        return self.run / f"{process}.pid"

    def ready_file(self, process: str) -> Path:
        return self.run / f"{process}.ready"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def log(self, process: str) -> Path:
        return self.logs / f"{process}.log"

    def trace(self, process: str) -> Path:
        return self.root / "traces" / f"{process}.jsonl"

    def prepare(self) -> None:
        """Makes the folders that nobody else makes."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (self.secrets, self.blobs, self.agent_state, self.run, self.logs, self.root / "traces"):
            folder.mkdir(exist_ok=True, mode=0o700)
