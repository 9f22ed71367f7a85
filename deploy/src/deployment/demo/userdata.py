"""User data that leave traces in the guest, so that one can see that they came and were acted on."""

from __future__ import annotations

from dataclasses import dataclass

from deployment.guests import GuestKind

FILE = "/etc/cirra-demo"
OUTPUT = "/run/cirra-demo"


@dataclass(frozen=True, slots=True)
class UserData:
    """`text` writes `mark` into FILE, and runs a command whose output in OUTPUT holds `mark` again."""

    text: str
    mark: str


def user_data(kind: GuestKind, mark: str) -> UserData:
    """*mark*: letters, digits, `-` and `_`."""
    return UserData(_cloud_config(mark) if kind == "debian" else _script(mark), mark)


def _cloud_config(mark: str) -> str:
    """For cloud-init (cc_write_files, cc_runcmd)."""
    return f"""\
#cloud-config
write_files:
  - path: {FILE}
    content: |
      {mark}
runcmd:
  - [sh, -c, 'echo "{mark} on $(hostname)" > {OUTPUT}']
"""


def _script(mark: str) -> str:
    """For the tiny guest, which runs a shell script and nothing else."""
    return f"""\
#!/bin/sh
echo {mark} > {FILE}
echo "{mark} on $(hostname)" > {OUTPUT}
echo user data done
"""
