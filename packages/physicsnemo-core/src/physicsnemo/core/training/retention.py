# SPDX-License-Identifier: Apache-2.0
"""Which steps of a training to keep."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Best = tuple[str, Literal["min", "max"]]


@dataclass(frozen=True)
class Retention:
    """How many of the newest steps to keep, and by which number in the metadata the best one.

    Raises
    ------
    ValueError
        If the number of steps is not positive, or the best is neither smallest nor largest.
    """

    keep_last: int | None
    keep_best: Best | None

    def __post_init__(self) -> None:
        if self.keep_last is not None and self.keep_last < 1:
            raise ValueError(f"keep_last must be at least 1, got {self.keep_last}")
        if self.keep_best is not None and self.keep_best[1] not in ("min", "max"):
            raise ValueError(
                f"keep_best must be a metric's name and 'min' or 'max', got {self.keep_best}"
            )

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is ever deleted."""
        return self.keep_last is None and self.keep_best is None

    def check(self, metadata: Mapping[str, Any]) -> None:
        """Check that a step to be written can be compared with others.

        Raises
        ------
        ValueError
            If its metadata lack the number that tells the best.
        """
        if self.keep_best is not None and not _is_number(metadata.get(self.keep_best[0])):
            raise ValueError(
                f"keep_best needs a number metadata[{self.keep_best[0]!r}], "
                f"got {metadata.get(self.keep_best[0])!r}"
            )

    def to_delete(self, written: int, steps: Mapping[int, Mapping[str, Any]]) -> list[int]:
        """Return the steps to delete, given the one just written and the metadata of all."""
        if self.keeps_all:
            return []
        newest = sorted(steps)[-(self.keep_last or 1) :]
        return sorted(steps.keys() - {written, *newest, *self._best(steps)})

    def _best(self, steps: Mapping[int, Mapping[str, Any]]) -> list[int]:
        if self.keep_best is None:
            return []
        name, order = self.keep_best
        values = {step: data[name] for step, data in steps.items() if _is_number(data.get(name))}
        comparable = {step: value for step, value in values.items() if not math.isnan(value)}
        choose = min if order == "min" else max
        return [choose(comparable, key=lambda step: comparable[step])] if comparable else []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
