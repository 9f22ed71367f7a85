"""nft(8) in the calling thread's namespace: a table read, a transaction applied. Blocks."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess

from net_agent.drivers.base import NetworkFault
from net_agent.drivers.linux.ruleset import Difference, Seen, Table, difference, parse_listing

_TIMEOUT_S = 10.0
# Its messages are read here: in English, please.
_ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}

# linux/netfilter/nfnetlink.h, nf_tables.h
_NETLINK_NETFILTER = 12
_NFT_MSG_GETGEN = 10 << 8 | 16
_NFTA_GEN_ID = 1
_NLM_F_REQUEST = 1
_HEADER = struct.Struct("=IHHII")
_GENERIC = struct.Struct("=BBH")
_ATTRIBUTE = struct.Struct("=HH")


def read_table(family: str, name: str) -> Seen | None:
    """None when there is no such table."""
    result = _run("-j", "list", "table", family, name)
    if result.returncode == 0:
        return parse_listing(json.loads(result.stdout))
    if b"No such file or directory" in result.stderr:
        return None
    raise _fault(result)


def apply(script: str) -> None:
    """All of it or nothing. Raises NetworkFault."""
    result = _run("-f", "-", given=script)
    if result.returncode != 0:
        raise _fault(result)


def check(script: str) -> None:
    """Whether the kernel would take it; it takes nothing. Raises NetworkFault."""
    result = _run("-c", "-f", "-", given=script)
    if result.returncode != 0:
        raise _fault(result)


def delete_table(family: str, name: str) -> None:
    """Absent is success."""
    if read_table(family, name) is not None:
        apply(f"delete table {family} {name}\n")


def generation() -> int:
    """A number that changes with every transaction in this namespace, whoever makes it (NFT_MSG_GETGEN)."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as link:
        link.bind((0, 0))
        body = _GENERIC.pack(socket.AF_UNSPEC, 0, 0)
        link.send(_HEADER.pack(_HEADER.size + len(body), _NFT_MSG_GETGEN, _NLM_F_REQUEST, 1, 0) + body)
        answer = link.recv(4096)
    offset = _HEADER.size + _GENERIC.size
    while offset + _ATTRIBUTE.size <= len(answer):
        length, kind = _ATTRIBUTE.unpack_from(answer, offset)
        if kind == _NFTA_GEN_ID:
            return int.from_bytes(answer[offset + _ATTRIBUTE.size : offset + length], "big")
        offset += length + 3 & ~3
    raise NetworkFault("the kernel tells no generation of its rules", reason="FIREWALL_REFUSED")


class TableKeeper:
    """Keeps one table of one namespace as it shall be; remembers when it was last seen right.

    As long as the namespace's generation stays, so do its tables: a look costs one message.
    """

    def __init__(self) -> None:
        self._right: tuple[Table, int] | None = None

    def due(self, wanted: Table) -> Difference | None:
        """What has to be changed; None: all is right."""
        now = generation()
        if self._right == (wanted, now):
            return None
        due = difference(wanted, read_table(wanted.family, wanted.name))
        if due is None:
            self._right = (wanted, now)
        return due


def _run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin") or "nft"
    try:
        return subprocess.run(
            [program, *arguments],
            input=given.encode(),
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            env=_ENVIRONMENT,
        )
    except FileNotFoundError as error:
        raise NetworkFault("nft is not installed", reason="PROGRAM_MISSING", remedy="install nftables") from error
    except subprocess.TimeoutExpired as error:
        raise NetworkFault(f"nft did not end within {_TIMEOUT_S:g} s") from error


def _fault(result: subprocess.CompletedProcess[bytes]) -> NetworkFault:
    said = (result.stderr or result.stdout).decode(errors="replace").strip()
    return NetworkFault(f"nftables refused a change: {said[:500]}", reason="FIREWALL_REFUSED")
