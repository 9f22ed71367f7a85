"""Rules of iptables-legacy, which nft does not list, in its words: xtables keeps them apart, and frames meet them too.

Read by `iptables-legacy-save` (iptables-save(8)) in the calling thread's namespace, and only where a table of it is in
use. IPv4 alone, as the probe that says whether such rules bite.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

# In place of a table's family: nft has none by this name.
FAMILY = "iptables-legacy"
_TIMEOUT_S = 5.0
# Of this thread's namespace; empty: nobody has used any.
_IN_USE = Path("/proc/thread-self/net/ip_tables_names")
_VERDICTS = {"DROP": "drop", "REJECT": "reject", "ACCEPT": "accept"}
_TARGETS = {"-j": "jump", "-g": "goto"}


def list_legacy() -> list[Mapping[str, Any]]:
    """All tables. Raises OSError, subprocess.SubprocessError. Blocks."""
    if not _IN_USE.exists() or not _IN_USE.read_text().strip():
        return []
    program = shutil.which("iptables-legacy-save") or "/usr/sbin/iptables-legacy-save"
    done = subprocess.run([program], capture_output=True, timeout=_TIMEOUT_S, check=True, text=True)
    return [*parse(done.stdout.splitlines())]


def parse(lines: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """What iptables-save prints → entries as of nft's list: chains at hook forward, and of all rules where they lead
    (libnftables-json(5)). Pure."""
    table = ""
    for line in lines:
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":FORWARD "):
            policy = line.split()[1].lower()
            chain = {"family": FAMILY, "table": table, "name": "FORWARD", "hook": "forward", "policy": policy}
            yield {"chain": chain}
        elif line.startswith("-A "):
            _, chain_name, *words = shlex.split(line)
            yield {"rule": {"family": FAMILY, "table": table, "chain": chain_name, "expr": _leads(words)}}


def _leads(words: Sequence[str]) -> list[Mapping[str, Any]]:
    for option, target in pairwise(words):
        if lead := _TARGETS.get(option):
            verdict = _VERDICTS.get(target)
            return [{verdict: None}] if verdict else [{lead: {"target": target}}]
    return []
