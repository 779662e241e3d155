# SPDX-License-Identifier: Apache-2.0
"""The choice between the mathematics of the papers and that of nvidia-physicsnemo."""

from typing import Any

PAPER = "paper"
"""The mathematics of the paper that a model cites."""

IMPLIED: dict[str, dict[str, Any]] = {
    "1.0": {"numerics": "reference-1.2"},
    "2.1": {"numerics": "reference-2.1"},
}
"""What files of nvidia-physicsnemo mean, by release: a model's ``_implied_args``."""


def check_numerics(numerics: str) -> None:
    """Raise an error unless there are such numerics.

    Parameters
    ----------
    numerics
        ``"paper"``, ``"reference-1.2"`` or ``"reference-2.1"``.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    known = [PAPER, *(implied["numerics"] for implied in IMPLIED.values())]
    if numerics not in known:
        raise ValueError(f"expected numerics to be one of {', '.join(known)}, got {numerics!r}")
