"""All that a guest finds in a version's tree, walked by its listings as a guest would; and the golden files of that.

python -m tests.unit.metadata.walk      writes the files anew: then read the difference
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from metadata import ec2, openstack
from metadata.guest import Guest
from metadata.root import root
from metadata.tree import Directory, Secret, Value, find
from tests.unit.metadata.guests import BARE, CLOUD, GUEST

FOLDER = Path(__file__).parent / "golden"


def golden() -> dict[str, str]:
    """File → what is to be in it: each version for a guest that has all there is, the latest for one with nothing."""
    trees = {}
    for version in (*ec2.VERSIONS, ec2.LATEST):
        trees[f"ec2-{version}"] = _ec2(root(GUEST, CLOUD), f"/{version}/")
    for version in (*openstack.VERSIONS, openstack.LATEST):
        trees[f"openstack-{version}"] = _openstack(GUEST, version)
    trees["ec2-bare"] = _ec2(root(BARE, CLOUD), "/latest/")
    trees["openstack-bare"] = _openstack(BARE, "latest")
    return {f"{name}.txt": "\n".join(lines) + "\n" for name, lines in trees.items()}


def _ec2(tree: Directory, path: str) -> Iterator[str]:
    listing = find(tree, path)
    assert isinstance(listing, str)
    yield from _told(path, listing)
    for line in listing.splitlines():
        number, equals, _ = line.partition("=")
        if equals:
            yield from _ec2(tree, f"{path}{number}/")
        elif line.endswith("/"):
            yield from _ec2(tree, path + line)
        else:
            yield from _told(path + line, find(tree, path + line))


def _openstack(guest: Guest, version: str) -> Iterator[str]:
    tree, path = root(guest, CLOUD), f"/openstack/{version}/"
    listing = find(tree, path)
    assert isinstance(listing, str)
    yield from _told(path, listing)
    for name in listing.splitlines():
        yield from _told(path + name, find(tree, path + name))


def _told(path: str, value: Value | None) -> Iterator[str]:
    """The path, and its content below it."""
    yield path
    if isinstance(value, Secret):
        text = f"<{value.name}>"
    elif path.endswith(".json"):
        text = json.dumps(json.loads(str(value)), indent=2, sort_keys=True)
    else:
        text = str(value)
    yield from (f"    {line}" for line in text.splitlines())


if __name__ == "__main__":
    for old in FOLDER.glob("*.txt"):
        old.unlink()
    for file, text in golden().items():
        (FOLDER / file).write_text(text)
