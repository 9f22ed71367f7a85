"""The qcow2 header, read before anything else reads the file; formats told by their magic bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_gateway.images.errors import ImageRefused
from api_gateway.images.formats import detected
from api_gateway.images.qcow2 import HEADER_BYTES, check_header, parse_header

CLUSTER_BITS = 16
END_OF_EXTENSIONS = (0, b"")
FILE_SIZE = 1 << 20


def _header(
    *,
    version: int = 3,
    backing_offset: int = 0,
    size: int = 1 << 30,
    crypt: int = 0,
    incompatible: int = 0,
    l1_entries: int = 2,
    l1_offset: int = 3 << CLUSTER_BITS,
    extensions: tuple[tuple[int, bytes], ...] = (END_OF_EXTENSIONS,),
    cluster_bits: int = CLUSTER_BITS,
) -> bytes:
    """As docs/interop/qcow2.txt of QEMU lays it out."""
    data = b"QFI\xfb" + struct.pack(
        ">IQIIQIIQQIIQ",
        version,
        backing_offset,
        10 if backing_offset else 0,
        cluster_bits,
        size,
        crypt,
        l1_entries,
        l1_offset,
        1 << CLUSTER_BITS,
        1,
        0,
        0,
    )
    if version == 3:
        data += struct.pack(">QQQII", incompatible, 0, 0, 4, 104)
    for kind, content in extensions:
        data += struct.pack(">II", kind, len(content)) + content + b"\0" * (-len(content) % 8)
    return data.ljust(HEADER_BYTES, b"\0")


def _refusal(data: bytes, file_size: int = FILE_SIZE) -> str:
    with pytest.raises(ImageRefused) as raised:
        check_header(parse_header(data), file_size)
    return raised.value.reason


@pytest.mark.parametrize("version", [2, 3])
def test_a_header_that_stands_alone(version: int) -> None:
    header = parse_header(_header(version=version))
    check_header(header, FILE_SIZE)
    assert (header.version, header.virtual_size) == (version, 1 << 30)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (_header(backing_offset=200), "IMAGE_HAS_BACKING_FILE"),
        (_header(version=2, backing_offset=200), "IMAGE_HAS_BACKING_FILE"),
        (_header(extensions=((0xE2792ACA, b"raw"), END_OF_EXTENSIONS)), "IMAGE_HAS_BACKING_FILE"),
        (_header(incompatible=1 << 2), "IMAGE_HAS_DATA_FILE"),
        (_header(extensions=((0x44415441, b"/etc/shadow"), END_OF_EXTENSIONS)), "IMAGE_HAS_DATA_FILE"),
        (_header(extensions=((0x6803F857, b"x" * 96), (0x44415441, b"/x"), END_OF_EXTENSIONS)), "IMAGE_HAS_DATA_FILE"),
        (_header(crypt=2), "IMAGE_IS_ENCRYPTED"),
        (_header(extensions=((0x0537BE77, b"\0" * 16), END_OF_EXTENSIONS)), "IMAGE_IS_ENCRYPTED"),
        (_header(incompatible=1 << 1), "IMAGE_IS_CORRUPT"),
        (_header(incompatible=1 << 40), "IMAGE_FORMAT_UNSUPPORTED"),
        (_header(version=4), "IMAGE_FORMAT_UNSUPPORTED"),
        (_header(version=1), "IMAGE_FORMAT_UNSUPPORTED"),
        (_header(cluster_bits=40), "IMAGE_IS_CORRUPT"),
        (_header(l1_entries=1 << 20), "IMAGE_TRUNCATED"),
        (_header()[:60], "IMAGE_TRUNCATED"),
        (_header()[:90], "IMAGE_TRUNCATED"),
        (_header()[:104], "IMAGE_TRUNCATED"),
        (_header(extensions=((0x6803F857, b"x" * HEADER_BYTES), (0x44415441, b"/x"))), "IMAGE_FORMAT_UNSUPPORTED"),
        (b"KDMV".ljust(HEADER_BYTES, b"\0"), "IMAGE_FORMAT_MISMATCH"),
    ],
)
def test_headers_that_are_refused(data: bytes, reason: str) -> None:
    assert _refusal(data) == reason


def test_extensions_after_the_end_mark_count_for_nothing() -> None:
    check_header(parse_header(_header(extensions=(END_OF_EXTENSIONS, (0x44415441, b"/x")))), FILE_SIZE)


@given(st.binary(max_size=256))
def test_no_bytes_break_the_parser(tail: bytes) -> None:
    for data in (tail, b"QFI\xfb" + tail, _header()[:104] + tail):
        try:
            check_header(parse_header(data), len(data))
        except ImageRefused as refusal:
            assert refusal.reason.startswith("IMAGE_")
            assert refusal.violations


@pytest.mark.parametrize(
    ("beginning", "name"),
    [
        (b"QFI\xfb", "qcow2"),
        (b"KDMV", "vmdk"),
        (b"# Disk DescriptorFile\nversion=1", "vmdk"),
        (b"vhdxfile", "vhdx"),
        (b"conectix", "vpc"),
        (b"QED\0", "qed"),
        (b"LUKS\xba\xbe\0\1", "luks"),
        (b"\0" * 0x40 + b"\x7f\x10\xda\xbe", "vdi"),
        (b"\xeb\x63\x90" + b"\0" * 507 + b"\x55\xaa", "raw"),
        (b"", "raw"),
    ],
)
def test_formats_are_told_by_their_magic(beginning: bytes, name: str) -> None:
    assert detected(beginning) == name
