"""The header of a qcow2 file, read by ourselves before any other program looks at the file.

A hostile header names other files of the host (a backing file, an external data file), which QEMU's tools would open.
Source: QEMU, docs/interop/qcow2.txt.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from api_gateway.images.errors import (
    FORMAT_MISMATCH,
    FORMAT_UNSUPPORTED,
    HAS_BACKING_FILE,
    HAS_DATA_FILE,
    IS_CORRUPT,
    IS_ENCRYPTED,
    TRUNCATED,
    ImageRefused,
)

MAGIC = b"QFI\xfb"
HEADER_BYTES = 4096
"""As much of the file's beginning as must be given to `parse_header`: headers end within the first cluster, and the
extensions that matter come first in any file that a tool has written."""

_V2_BYTES = 72
_V3_BYTES = 104
_MIN_CLUSTER_BITS, _MAX_CLUSTER_BITS = 9, 21

_DIRTY, _CORRUPT, _EXTERNAL_DATA, _COMPRESSION, _EXTENDED_L2 = (1 << bit for bit in range(5))
_UNDERSTOOD = _DIRTY | _CORRUPT | _EXTERNAL_DATA | _COMPRESSION | _EXTENDED_L2

_EXTENSION_END = 0
_EXTENSION_BACKING_FORMAT = 0xE2792ACA
_EXTENSION_ENCRYPTION = 0x0537BE77
_EXTENSION_DATA_FILE = 0x44415441


@dataclass(frozen=True, slots=True)
class Qcow2Header:
    """Offsets and sizes in bytes. `tables_end`: the file is at least this long."""

    version: int
    virtual_size: int
    backing_file_offset: int
    crypt_method: int
    incompatible_features: int
    extensions: frozenset[int]
    tables_end: int


def parse_header(data: bytes) -> Qcow2Header:
    """`data`: the first `HEADER_BYTES` of the file, or all of a shorter one. Raises ImageRefused."""
    if data[:4] != MAGIC:
        raise ImageRefused(FORMAT_MISMATCH, "the data is no qcow2 image")
    if len(data) < _V2_BYTES:
        raise ImageRefused(TRUNCATED, "the data ends within the qcow2 header")
    (
        version,
        backing_offset,
        _,
        cluster_bits,
        size,
        crypt,
        l1_entries,
        l1_offset,
        refcount_offset,
        refcount_clusters,
    ) = struct.unpack_from(">IQIIQIIQQI", data, 4)
    if version not in (2, 3):
        raise ImageRefused(FORMAT_UNSUPPORTED, f"qcow2 of version {version}: convert it with qemu-img to version 3")
    if not _MIN_CLUSTER_BITS <= cluster_bits <= _MAX_CLUSTER_BITS:
        raise ImageRefused(IS_CORRUPT, f"clusters of 2^{cluster_bits} bytes don't exist")
    features, length = 0, _V2_BYTES
    if version == 3:
        if len(data) < _V3_BYTES:
            raise ImageRefused(TRUNCATED, "the data ends within the qcow2 header")
        (features,) = struct.unpack_from(">Q", data, 72)
        (length,) = struct.unpack_from(">I", data, 100)
        if length < _V3_BYTES or length % 8 or length > 1 << cluster_bits:
            raise ImageRefused(IS_CORRUPT, f"a header of {length} bytes does not exist")
    return Qcow2Header(
        version=version,
        virtual_size=size,
        backing_file_offset=backing_offset,
        crypt_method=crypt,
        incompatible_features=features,
        extensions=_extensions(data, length),
        tables_end=max(l1_offset + 8 * l1_entries, refcount_offset + (refcount_clusters << cluster_bits)),
    )


def _extensions(data: bytes, begin: int) -> frozenset[int]:
    """The types of the header extensions. Raises ImageRefused when they go on beyond what was given."""
    found: set[int] = set()
    offset = begin
    while offset + 8 <= len(data):
        kind, length = struct.unpack_from(">II", data, offset)
        if kind == _EXTENSION_END:
            return frozenset(found)
        found.add(kind)
        offset += 8 + length + -length % 8
    if offset >= HEADER_BYTES:
        raise ImageRefused(FORMAT_UNSUPPORTED, "its qcow2 header is too long: convert it with qemu-img")
    raise ImageRefused(TRUNCATED, "the data ends within the qcow2 header")


def check_header(header: Qcow2Header, file_size: int) -> None:
    """Raises ImageRefused for what leads out of the file, can't be read without a secret, or is not whole."""
    if header.backing_file_offset or _EXTENSION_BACKING_FORMAT in header.extensions:
        raise ImageRefused(
            HAS_BACKING_FILE, "it has a backing file: make it stand alone with `qemu-img convert -O qcow2 OLD NEW`"
        )
    if header.incompatible_features & _EXTERNAL_DATA or _EXTENSION_DATA_FILE in header.extensions:
        raise ImageRefused(
            HAS_DATA_FILE, "its data is in another file: make it stand alone with `qemu-img convert -O qcow2 OLD NEW`"
        )
    if header.crypt_method or _EXTENSION_ENCRYPTION in header.extensions:
        raise ImageRefused(IS_ENCRYPTED, "it is encrypted: decrypt it with `qemu-img convert` first")
    if header.incompatible_features & _CORRUPT:
        raise ImageRefused(IS_CORRUPT, "it is marked as corrupt: repair it with `qemu-img check -r all`")
    if unknown := header.incompatible_features & ~_UNDERSTOOD:
        raise ImageRefused(FORMAT_UNSUPPORTED, f"it needs unknown features of qcow2 ({unknown:#x})")
    if header.tables_end > file_size:
        raise ImageRefused(TRUNCATED, f"it is {file_size} bytes long, and its tables end at {header.tables_end}")
