"""What a qcow2 header says, read without opening anything that it names.

Source: QEMU, docs/interop/qcow2.txt. A header is enough to refuse an image that would make QEMU read other files
of the host: a backing file, or an external data file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

MAGIC = b"QFI\xfb"

_HEADER_V2 = struct.Struct(">4sIQIIQIIQQIIQ")
_HEADER_V3 = struct.Struct(">QQQII")
_EXTENSION = struct.Struct(">II")

_INCOMPATIBLE_EXTERNAL_DATA = 1 << 2
_EXTENSION_END = 0
_EXTENSION_DATA_FILE = 0x4441_5441
_LONGEST_NAME = 1023


@dataclass(frozen=True, slots=True)
class Qcow2Header:
    """`backing_file`: as written in the image, or None. `data_file`: the image keeps its data elsewhere."""

    version: int
    virtual_size_bytes: int
    backing_file: str | None
    data_file: bool


def read_header(path: Path) -> Qcow2Header:
    """Reads the header of a file. `ValueError` when it is no qcow2 image or its header is damaged."""
    with path.open("rb") as file:
        # Header, extensions and the backing file's name lie in the first cluster, 64 KiB as a rule.
        return parse_header(file.read(65536))


def parse_header(head: bytes) -> Qcow2Header:
    """The header in the first octets of an image (64 KiB are enough). `ValueError` as `read_header`."""
    if len(head) < _HEADER_V2.size or not head.startswith(MAGIC):
        raise ValueError("not a qcow2 image")
    fields = _HEADER_V2.unpack_from(head)
    version, backing_offset, backing_length, virtual_size = fields[1], fields[2], fields[3], fields[5]
    if version not in (2, 3):
        raise ValueError(f"qcow2 version {version} is unknown")
    incompatible, header_length = 0, _HEADER_V2.size
    if version == 3:
        if len(head) < _HEADER_V2.size + _HEADER_V3.size:
            raise ValueError("the qcow2 header is truncated")
        incompatible, _, _, _, header_length = _HEADER_V3.unpack_from(head, _HEADER_V2.size)
    backing_file = None
    if backing_offset:
        name = head[backing_offset : backing_offset + min(backing_length, _LONGEST_NAME)]
        backing_file = name.decode(errors="surrogateescape")
    names_data_file = _EXTENSION_DATA_FILE in _extensions(head, header_length)
    return Qcow2Header(
        version=version,
        virtual_size_bytes=virtual_size,
        backing_file=backing_file,
        data_file=bool(incompatible & _INCOMPATIBLE_EXTERNAL_DATA) or names_data_file,
    )


def _extensions(head: bytes, offset: int) -> set[int]:
    """The types of the header's extensions; each is padded to eight octets."""
    found: set[int] = set()
    while offset + _EXTENSION.size <= len(head):
        kind, length = _EXTENSION.unpack_from(head, offset)
        if kind == _EXTENSION_END:
            return found
        found.add(kind)
        offset += _EXTENSION.size + (length + 7) // 8 * 8
    raise ValueError("the qcow2 header's extensions have no end")
