"""Updates by a mask of fields (AIP-134), in which a map's keys may be named one by one (AIP-161)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from core.fields import Fields


def check_mask(fields: Fields, paths: Iterable[str], updatable: Collection[str], *, map_field: str = "") -> None:
    """`map_field`: a field whose keys may be named one by one, as in "metadata.KEY"."""
    known = ", ".join((*updatable, f"{map_field}.KEY") if map_field else updatable)
    named = list(paths)
    if not named:
        fields.refuse("update_mask", f"it is empty: name some of {known}")
    for path in named:
        if path not in updatable and not (map_field and path.startswith(f"{map_field}.")):
            fields.refuse("update_mask", f"{path!r} can't be set: give some of {known}")


def masked_map(
    map_field: str, paths: Collection[str], present: Mapping[str, str], wanted: Mapping[str, str]
) -> dict[str, str]:
    """The map as the mask says: all of it anew, or the named keys, of which those that *wanted* lacks go."""
    found = dict(wanted if map_field in paths else present)
    for path in paths:
        key = path.removeprefix(f"{map_field}.")
        if key == path:
            continue
        if key in wanted:
            found[key] = wanted[key]
        else:
            found.pop(key, None)
    return found
