"""Writes docs/reference: {api,events}.md from the comments of proto/, states.md from the table of actions; and
docs/adr/README.md from the titles of the decisions.

Usage: generate_reference.py [--check]; with --check it writes nothing and exits 1 when a page is out of date.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import google.rpc.status_pb2
import grpc_tools
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

from conductor.compute.actions import states_page

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "proto"
TARGET = ROOT / "docs" / "reference"
DECISIONS = ROOT / "docs" / "adr"
PUBLIC = ("identity", "compute", "image", "network", "placement", "operations", "events")
INTERNAL_SERVICES = {"SchedulingService"}
SENSITIVE = 50001

# Numbers of descriptor.proto: what a path in the source information is made of.
_FILE_MESSAGES, _FILE_ENUMS, _FILE_SERVICES = 4, 5, 6
_MESSAGE_FIELDS, _ENUM_VALUES, _SERVICE_METHODS = 2, 2, 2

Comments = Mapping[tuple[int, ...], str]


def described() -> list[FileDescriptorProto]:
    """Every file of proto/, with its comments."""
    includes = (SOURCES, Path(google.rpc.status_pb2.__file__).parents[2], Path(grpc_tools.__file__).parent / "_proto")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "all.binpb"
        status = protoc.main(
            [
                "protoc",
                *(f"--proto_path={include}" for include in includes),
                "--include_source_info",
                f"--descriptor_set_out={output}",
                *(str(path.relative_to(SOURCES)) for path in sorted(SOURCES.rglob("*.proto"))),
            ]
        )
        if status != 0:
            raise SystemExit(status)
        return list(FileDescriptorSet.FromString(output.read_bytes()).file)


def comments_of(file: FileDescriptorProto) -> Comments:
    """Path in the file → the comment before it, on one line."""
    return {
        tuple(location.path): " ".join(location.leading_comments.split())
        for location in file.source_code_info.location
        if location.leading_comments
    }


def type_of(field: FieldDescriptorProto, file: FileDescriptorProto) -> str:
    """As one would write it in a proto file."""
    name = field.type_name.removeprefix(f".{file.package}.").removeprefix(".")
    if not name:
        name = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    if name.endswith("Entry"):
        return "map"
    repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
    return f"{name}[]" if repeated else name


def is_sensitive(field: FieldDescriptorProto) -> bool:
    # The extension is not registered here: its tag (50001, varint) stands in the serialised options.
    return b"\x88\xb5\x18\x01" in field.options.SerializeToString()


def message_section(file: FileDescriptorProto, message: DescriptorProto, place: int, level: str) -> Iterator[str]:
    comments = comments_of(file)
    yield f"{level} {message.name}\n"
    if about := comments.get((_FILE_MESSAGES, place)):
        yield f"{about}\n"
    if not message.field:
        return
    yield "| field | type | |\n|---|---|---|"
    for number, field in enumerate(message.field):
        about = comments.get((_FILE_MESSAGES, place, _MESSAGE_FIELDS, number), "")
        secret = "**Secret.** " if is_sensitive(field) else ""
        yield f"| `{field.name}` | {type_of(field, file)} | {secret}{about.replace('|', '/')} |"
    yield ""


def enum_section(file: FileDescriptorProto, enum: EnumDescriptorProto, place: int) -> Iterator[str]:
    comments = comments_of(file)
    yield f"### {enum.name}\n"
    for number, value in enumerate(enum.value):
        if number:
            about = comments.get((_FILE_ENUMS, place, _ENUM_VALUES, number), "")
            yield f"- `{value.name}`{f': {about}' if about else ''}"
    yield ""


def service_section(file: FileDescriptorProto, service: ServiceDescriptorProto, place: int) -> Iterator[str]:
    comments = comments_of(file)
    yield f"### {service.name}\n\n| method | request | answer | |\n|---|---|---|---|"
    for number, method in enumerate(service.method):
        about = comments.get((_FILE_SERVICES, place, _SERVICE_METHODS, number), "")
        asked, answered = (name.rsplit(".", 1)[-1] for name in (method.input_type, method.output_type))
        asked = f"stream {asked}" if method.client_streaming else asked
        answered = f"stream {answered}" if method.server_streaming else answered
        yield f"| `{method.name}` | {asked} | {answered} | {about} |"
    yield ""


def api_page(files: Sequence[FileDescriptorProto]) -> str:
    """The public services with their messages, by domain."""
    lines = [
        "# API reference\n",
        "Generated from `proto/` by `make docs`. Conventions (names, paging, errors, waiting): [api.md](../api.md).\n",
    ]
    for file in _public(files):
        services = [each for each in file.service if each.name not in INTERNAL_SERVICES]
        if not services:
            continue
        lines.append(f"## {file.package}\n")
        for place, service in enumerate(file.service):
            if service in services:
                lines.extend(service_section(file, service, place))
        for place, message in enumerate(file.message_type):
            lines.extend(message_section(file, message, place, "###"))
        for place, enum in enumerate(file.enum_type):
            lines.extend(enum_section(file, enum, place))
    return "\n".join(lines).rstrip() + "\n"


def events_page(files: Sequence[FileDescriptorProto]) -> str:
    """Every event that may be in the log."""
    lines = [
        "# Event catalogue\n",
        "Generated from `proto/` by `make docs`. Every state change is one of these, in the log and on the subject",
        "`<cell>.events.<aggregate type>.<aggregate id>.<event>`. How the log works is in [events.md](../events.md).\n",
    ]
    for file in files:
        if file.name.endswith("/events.proto") and not file.service:
            lines.append(f"## {file.package}\n")
            for place, message in enumerate(file.message_type):
                lines.extend(message_section(file, message, place, "###"))
    return "\n".join(lines).rstrip() + "\n"


def decisions_page() -> str:
    """Every decision by its number, with what its file calls it."""
    lines = ["# Decisions\n", "Why it is as it is, half a page for each. Listed by `make docs`.\n"]
    for path in sorted(DECISIONS.glob("[0-9]*.md")):
        number, title = path.read_text().partition("\n")[0].removeprefix("# ADR ").split(": ", 1)
        lines.append(f"- [{number}]({path.name}): {title[0].upper()}{title[1:]}")
    return "\n".join(lines) + "\n"


def _public(files: Iterable[FileDescriptorProto]) -> list[FileDescriptorProto]:
    return [file for file in files if file.package.split(".")[1] in PUBLIC]


def main() -> None:
    files = described()
    pages = {
        TARGET / "api.md": api_page(files),
        TARGET / "events.md": events_page(files),
        TARGET / "states.md": states_page(),
        DECISIONS / "README.md": decisions_page(),
    }
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date: run `make docs`", file=sys.stderr)
        raise SystemExit(1 if stale else 0)
    TARGET.mkdir(parents=True, exist_ok=True)
    for path in stale:
        path.write_text(pages[path])


if __name__ == "__main__":
    main()
