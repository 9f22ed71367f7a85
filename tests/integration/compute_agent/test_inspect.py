"""The header of a qcow2 image: what must be refused is found without opening it."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_agent.images.inspect import inspect
from compute_agent.images.qcow2 import MAGIC, parse_header, read_header
from core.agent.handler import AgentFailure


def qemu_img(*arguments: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    image = tmp_path / "plain.qcow2"
    qemu_img("create", "-f", "qcow2", image, "3M")
    return image


async def refusal(path: Path, disk_format: str = "qcow2") -> str:
    with pytest.raises(AgentFailure) as caught:
        await inspect(path, disk_format)
    assert caught.value.reason == "IMAGE_UNSAFE"
    assert not caught.value.retryable
    return caught.value.message


@pytest.mark.parametrize("compat", ["0.10", "1.1"])
async def test_a_plain_image_passes(tmp_path: Path, compat: str) -> None:
    image = tmp_path / "image"
    qemu_img("create", "-f", "qcow2", "-o", f"compat={compat}", image, "3M")
    header = read_header(image)
    assert (header.virtual_size_bytes, header.backing_file, header.data_file) == (3 << 20, None, False)
    assert header.version == (2 if compat == "0.10" else 3)
    assert await inspect(image, "qcow2") == 3 << 20


async def test_a_backing_file_is_found_and_refused(tmp_path: Path, plain: Path) -> None:
    image = tmp_path / "overlay"
    qemu_img("create", "-f", "qcow2", "-b", plain, "-F", "qcow2", image)
    assert read_header(image).backing_file == str(plain)
    assert "backing file" in await refusal(image)


async def test_an_external_data_file_is_refused(tmp_path: Path) -> None:
    image, data = tmp_path / "image", tmp_path / "data"
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={data}", image, "1M")
    assert read_header(image).data_file
    assert "data file" in await refusal(image)


async def test_a_data_file_named_without_its_feature_bit_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "image"
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={tmp_path / 'data'}", image, "1M")
    head = bytearray(image.read_bytes())
    struct.pack_into(">Q", head, 72, 0)
    image.write_bytes(head)
    assert read_header(image).data_file


async def test_what_is_no_qcow2_or_is_damaged_is_refused(tmp_path: Path, plain: Path) -> None:
    text = tmp_path / "text"
    text.write_text("hello")
    assert "not a qcow2" in await refusal(text)
    os.truncate(plain, 60)
    assert "image is refused" in await refusal(plain)


async def test_other_formats_are_refused(plain: Path) -> None:
    assert "vmdk" in await refusal(plain, "vmdk")


async def test_a_raw_image_is_what_its_length_says_even_if_it_looks_like_qcow2(plain: Path) -> None:
    assert await inspect(plain, "raw") == os.stat(plain).st_size


@given(st.binary(max_size=300))
def test_no_input_makes_the_parser_fail_otherwise_than_by_value_error(tail: bytes) -> None:
    try:
        parse_header(MAGIC + tail)
    except ValueError as error:
        assert str(error)
