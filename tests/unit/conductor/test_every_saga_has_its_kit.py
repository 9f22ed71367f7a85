"""Every saga of the conductor passes what every saga passes (DESIGN §4): none, and none of the tests, is forgotten.

A module `test_kit_*` says by `SAGAS` which sagas it drives; what it imports of the kit, it uses (ruff sees to that).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import conductor.bootstrap
from core.saga import Saga
from core.testing import sagas as kit
from tests.harness.every_saga import every_saga

FOLDER = Path(__file__).parents[2] / "integration" / "conductor" / "sagas"
Check = Callable[..., Any]


def _modules() -> Iterator[ModuleType]:
    for path in sorted(FOLDER.glob("test_kit_*.py")):
        yield importlib.import_module(f"tests.integration.conductor.sagas.{path.stem}")


def _wanted(saga: Saga[Any]) -> set[Check]:
    """The kit's checks that mean something for the saga."""
    wanted: set[Check] = {kit.fails, kit.cancels, kit.crashes, kit.repeats_dos}
    if not all(kit.can_unwind(saga, at) for at in kit.Interposed(saga).points()):
        wanted |= {kit.resolves}
    if not saga.forward_only:
        wanted |= {kit.fails_undoing, kit.resolves_undoing, kit.crashes_undoing, kit.repeats_undos}
        wanted |= {kit.dos_after_undos, kit.dos_amid_undos}
    if saga.restart_from:
        wanted |= {kit.wakes_in_next_attempt}
    return wanted


@pytest.mark.parametrize("saga", every_saga(), ids=lambda saga: saga.name)
def test_every_saga_passes_what_every_saga_passes(saga: Saga[Any]) -> None:
    driving = [module for module in _modules() if saga in module.SAGAS]
    used = {check.__name__ for module in driving for check in _wanted(saga) if check in vars(module).values()}
    assert used == {check.__name__ for check in _wanted(saga)}, driving


@pytest.mark.parametrize("saga", every_saga(), ids=lambda saga: saga.name)
def test_every_saga_is_known_to_the_conductor(saga: Saga[Any]) -> None:
    assert any(each is saga for each in vars(conductor.bootstrap).values())
