"""What hosts are called, in a form that is compared for all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

_FIRST_ROWS = 64


def grown(array: NDArray[np.generic], rows: int) -> NDArray[np.generic]:
    """The array with room for so many rows, by doubling; new rows are zero."""
    size = max(len(array), _FIRST_ROWS)
    while size < rows:
        size *= 2
    if size == len(array):
        return array
    larger = np.zeros((size, *array.shape[1:]), dtype=array.dtype)
    larger[: len(array)] = array
    return larger


class Labels:
    """One text per row; a row that has none has the empty one."""

    def __init__(self) -> None:
        self.values: list[str] = [""]
        self._code: dict[str, int] = {"": 0}
        self._codes: NDArray[np.int32] = np.zeros(_FIRST_ROWS, dtype=np.int32)

    def set(self, row: int, value: str) -> None:
        code = self._code.get(value)
        if code is None:
            code = self._code[value] = len(self.values)
            self.values.append(value)
        self._codes = grown(self._codes, row + 1)  # type: ignore[assignment]
        self._codes[row] = code

    def get(self, row: int) -> str:
        return self.values[self._codes[row]] if row < len(self._codes) else ""

    def equal(self, value: str, rows: int) -> Mask:
        """Which of the first *rows* have this value."""
        return self.matching(lambda each: each == value, rows)

    def matching(self, predicate: Callable[[str], bool], rows: int) -> Mask:
        """Which of the first *rows* have a value that the predicate accepts; asked once per value that there is."""
        accepted = np.fromiter((predicate(value) for value in self.values), dtype=np.bool_, count=len(self.values))
        self._codes = grown(self._codes, rows)  # type: ignore[assignment]
        found: Mask = accepted[self._codes[:rows]]
        return found


class LabelSets:
    """Some texts per row."""

    def __init__(self) -> None:
        self._has: dict[str, Mask] = {}

    def set(self, row: int, labels: Iterable[str]) -> None:
        """The row has these, and no others."""
        wanted = frozenset(labels)
        for label in wanted - self._has.keys():
            self._has[label] = np.zeros(_FIRST_ROWS, dtype=np.bool_)
        for label, has in self._has.items():
            if label in wanted or row < len(has):
                larger = grown(has, row + 1)
                larger[row] = label in wanted
                self._has[label] = larger  # type: ignore[assignment]

    @property
    def labels(self) -> frozenset[str]:
        """All that some row has or had."""
        return frozenset(self._has)

    def of(self, row: int) -> frozenset[str]:
        return frozenset(label for label, has in self._has.items() if row < len(has) and has[row])

    def having(self, label: str, rows: int) -> Mask:
        """Which of the first *rows* have it."""
        has = self._has.get(label)
        if has is None:
            return np.zeros(rows, dtype=np.bool_)
        self._has[label] = has = grown(has, rows)  # type: ignore[assignment]
        return has[:rows]

    def having_any(self, rows: int, labels: Iterable[str] | None = None) -> Mask:
        """Which of the first *rows* have one of the labels at least; without labels: anything."""
        found = np.zeros(rows, dtype=np.bool_)
        for label in self._has if labels is None else labels:
            found |= self.having(label, rows)
        return found
