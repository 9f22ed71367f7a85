"""Every saga that there is, found by looking: a new one can't be forgotten."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import conductor
from core.saga import Saga


def modules_below(package: ModuleType) -> Iterator[ModuleType]:
    """All of a package's modules, but those that run when they are imported."""
    for module_info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module_info.name.endswith("__main__"):
            yield importlib.import_module(module_info.name)


def every_saga() -> list[Saga[Any]]:
    """Those that the conductor defines, each once."""
    found = {
        each.name: each
        for module in modules_below(conductor)
        for each in vars(module).values()
        if isinstance(each, Saga)
    }
    return list(found.values())
