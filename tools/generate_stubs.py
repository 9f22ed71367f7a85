"""Generates the Python stubs of Cirra's contract: proto/ → libs/proto/src/cirra.

Messages (`*_pb2.py`), gRPC stubs (`*_pb2_grpc.py`) and their annotations (`.pyi`, by mypy-protobuf). Imports
of google/{protobuf,rpc,api,type,longrunning} are resolved from the installed libraries. Nothing is done while
the digest of the inputs equals the last run's, and an unchanged file keeps its modification time.

Usage: generate_stubs.py [--force]; exits non-zero with protoc's own messages when a file is wrong.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import google.rpc.status_pb2
import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "proto"
TARGET = ROOT / "libs" / "proto" / "src" / "cirra"
DIGEST = TARGET / ".digest"
GENERATORS = ("grpcio-tools", "mypy-protobuf", "googleapis-common-protos")
PACKAGE_DOCSTRING = '"""Generated from proto/ by `make proto`: do not edit."""\n'


def input_digest(sources: Iterable[Path]) -> str:
    """SHA-256 over this program, the generators' versions, and every source's name and content."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for distribution in GENERATORS:
        digest.update(f"{distribution}={importlib.metadata.version(distribution)}\n".encode())
    for source in sources:
        content = source.read_bytes()
        digest.update(f"{source.relative_to(SOURCES)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def run_protoc(sources: Iterable[Path], output: Path) -> None:
    """Writes all stubs under `output`; raises `SystemExit` when protoc refuses (it has printed why)."""
    grpc_tools_protos = Path(grpc_tools.__file__).parent / "_proto"
    googleapis_protos = Path(google.rpc.status_pb2.__file__).parents[2]
    scripts = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join((scripts, os.environ.get("PATH", "")))  # protoc looks for its plug-ins there
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={SOURCES}",
            f"--proto_path={googleapis_protos}",
            f"--proto_path={grpc_tools_protos}",
            f"--python_out={output}",
            f"--grpc_python_out={output}",
            f"--mypy_out=quiet:{output}",
            f"--mypy_grpc_out=quiet:{output}",
            *(str(source.relative_to(SOURCES)) for source in sources),
        ]
    )
    if status != 0:
        raise SystemExit(status)


def make_packages(package: Path) -> None:
    """Makes every folder under `package` a regular package, and the whole of it typed (PEP 561)."""
    for folder in (package, *(path for path in package.rglob("*") if path.is_dir())):
        (folder / "__init__.py").write_text(PACKAGE_DOCSTRING)
    (package / "py.typed").touch()


def install(generated: Path, target: Path) -> None:
    """Makes `target` equal to `generated`, file by file: an import meanwhile never misses a package."""
    wanted = {path.relative_to(generated) for path in generated.rglob("*") if path.is_file()}
    for relative in sorted(wanted):
        new, old = generated / relative, target / relative
        if old.exists() and old.read_bytes() == new.read_bytes():
            continue
        old.parent.mkdir(parents=True, exist_ok=True)
        os.replace(new, old)
    kept_folders = {folder for relative in wanted for folder in relative.parents}
    for old in sorted(target.rglob("*"), reverse=True):
        if "__pycache__" in old.parts:
            continue
        relative = old.relative_to(target)
        if old.is_dir() and relative not in kept_folders:
            shutil.rmtree(old)
        elif old.is_file() and relative not in wanted:
            old.unlink()


def main() -> None:
    sources = sorted(SOURCES.rglob("*.proto"))
    digest = input_digest(sources)
    if "--force" not in sys.argv[1:] and DIGEST.exists() and DIGEST.read_text() == digest:
        return
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    DIGEST.unlink(missing_ok=True)  # a run that dies half-way must be done again
    with tempfile.TemporaryDirectory(dir=TARGET.parent, prefix=".generating-") as folder:
        output = Path(folder)
        (output / "cirra").mkdir()
        if sources:
            run_protoc(sources, output)
        make_packages(output / "cirra")
        install(output / "cirra", TARGET)
    DIGEST.write_text(digest)
    print(f"proto: generated the stubs of {len(sources)} files")


if __name__ == "__main__":
    main()
