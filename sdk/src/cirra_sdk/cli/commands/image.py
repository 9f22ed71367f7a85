"""`cirra image`: disks that servers start from."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cirra_sdk.cli import named, options
from cirra_sdk.cli.command import Session, command, each, group
from cirra_sdk.cli.resource import one
from cirra_sdk.cli.waiting import take
from cirra_sdk.errors import CirraApiError

if TYPE_CHECKING:
    from cirra.image.v1.image_pb2 import Image

app = group("image", "Disks that servers start from.")

File = Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Upload it at once.")]


class DiskFormat(StrEnum):
    QCOW2 = "qcow2"
    RAW = "raw"


@command(app, "create")
async def create(
    session: Session,
    *,
    name: options.NewName,
    file: File = None,
    disk_format: Annotated[DiskFormat, typer.Option("--format", "--disk-format", help="Of the file.")] = (
        DiskFormat.QCOW2
    ),
    min_disk: Annotated[int, typer.Option(metavar="GIB", min=0, help="A flavor's disk must have as much.")] = 0,
    min_ram: Annotated[int, typer.Option(metavar="MIB", min=0, help="A flavor's memory must have as much.")] = 0,
    properties: options.Properties,
    public: Annotated[bool, typer.Option("--public", help="Every project may boot it (administrators).")] = False,
) -> None:
    """Make an image; with --file, upload its data too. What the cloud refuses leaves nothing behind."""
    from cirra.image.v1.image_pb2 import DiskFormat as Format

    if file is not None:
        # Better now than after an image was announced.
        file.open("rb").close()
    image = await session.client.images.create(
        name,
        disk_format=Format.Value(f"DISK_FORMAT_{disk_format.name}"),
        min_disk_gib=min_disk,
        min_memory_mib=min_ram,
        properties=options.pairs(properties),
        public=public,
    )
    if file is not None:
        try:
            image = await _upload(session, image, file)
        except CirraApiError:
            await session.client.images.delete(image)
            raise
    session.output.resource(image)


@command(app, "upload")
async def upload(
    session: Session,
    *,
    name: named.Image,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Its data, in the format it was created with.")],
) -> None:
    """Give an image its data: one that has none yet, or whose data was refused."""
    session.output.resource(await _upload(session, await session.client.images.get(name), file))


@command(app, "list")
async def list_images(session: Session, *, limit: options.Limit = 0) -> None:
    """List images."""
    from cirra_sdk.cli.tables import IMAGES

    session.output.resources(await take(session.client.images.list(), limit), IMAGES)


@command(app, "show")
async def show(session: Session, *, name: named.Image, as_of: options.AsOf = "") -> None:
    """Show an image."""
    session.output.resource(await one(session, session.client.images, name, as_of))


@command(app, "delete")
async def delete(session: Session, *, names: named.Images) -> None:
    """Delete images that no server uses."""
    await each(names, session.client.images.delete)


async def _upload(session: Session, image: Image, file: Path) -> Image:
    """With a bar on stderr, if that is a terminal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    err = session.output.err
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("checking", total=None)

        def told(sent: int, total: int) -> None:
            done = sent == total
            bar.update(task, completed=sent, total=total, description="inspecting" if done else "uploading")

        return await session.client.images.upload(image, file, told)
