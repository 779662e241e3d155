# SPDX-License-Identifier: Apache-2.0
"""Times of steps on more GPUs than were measured.

A step of N GPUs is taken to last ``alone · share + exposed · communication + rest``: ``alone`` is
the time of one GPU alone, ``share`` the part of its operations that each of N GPUs has, and
``communication`` how long the links need for what it sends, of which the part ``exposed`` is hidden
by no computation. ``rest`` is what else a step takes, such as filling the buckets of gradients.
Where the number of rows is fixed, it is ``kept · (1 - share)`` instead: ``kept`` is that part of
the time alone which does not become less with the rows, such as the optimizer's.

A step measured on two GPUs tells how much is lost. As much of it is exposed communication as can
be, and what is left is the rest. Where the number of rows is fixed, what is exchanged is as exposed
as where it grows, and what is left tells what is kept.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tools.bench.links import Link, needed
from tools.bench.scaling_traffic import Exchange

WAYS = ("ddp", "fsdp", "domain-weak", "domain-fixed")


class Lost(NamedTuple):
    """The part of communication that is exposed, and, as parts of the time alone, rest or kept."""

    exposed: float
    rest: float


@dataclass(frozen=True)
class Prediction:
    """One way of one case, in seconds.

    Attributes
    ----------
    case, way
        What is predicted.
    alone, two
        Measured steps of one GPU and of two.
    by_others
        The step of two as if it had not been measured: with the medians of what others lose.
    steps
        Predicted steps, by the number of GPUs.
    communication
        How long the links need, by the number of GPUs.
    """

    case: str
    way: str
    alone: float
    two: float
    by_others: float
    steps: dict[int, float]
    communication: dict[int, float]


@dataclass(frozen=True)
class Model:
    """Steps of one way of one case.

    Attributes
    ----------
    alone
        The time of one GPU alone, in seconds.
    share, communication
        By the number of GPUs; see above.
    fixed
        Whether the number of rows is.
    """

    alone: float
    share: dict[int, float]
    communication: dict[int, float]
    fixed: bool

    def seconds(self, gpus: int, lost: Lost) -> float:
        """Return how long a step takes that loses so much."""
        rest = lost.rest * (1 - self.share[gpus] if self.fixed else 1)
        return self.alone * (self.share[gpus] + rest) + lost.exposed * self.communication[gpus]

    def lost(self, two: float, exposed: float | None = None) -> Lost:
        """Return what a step of two GPUs loses that takes so long, given what is exposed or not."""
        beyond = two - self.alone * self.share[2]
        if exposed is None:
            exposed = min(1.0, max(0.0, beyond / self.communication[2]))
        rest = (beyond - exposed * self.communication[2]) / self.alone
        return Lost(exposed, rest / (1 - self.share[2]) if self.fixed else rest)


def predictions(
    measured: Mapping[tuple[str, str], float],
    exchanges: Sequence[Exchange],
    links: Sequence[Link],
) -> list[Prediction]:
    """Return predictions for all cases that were counted.

    Parameters
    ----------
    measured
        Seconds of steps of one GPU and of two, by case and way.
    exchanges
        What the same steps send, and those of more GPUs.
    links
        How long that takes.
    """
    cases = dict.fromkeys(it.case for it in exchanges)
    models = {case: _models(case, measured, exchanges, links) for case in cases}
    lost: dict[str, dict[str, Lost]] = {}
    for case, ways in models.items():
        own = lost[case] = {way: it.lost(measured[case, way]) for way, it in ways.items()}
        exposed = own["domain-weak"].exposed
        own["domain-fixed"] = ways["domain-fixed"].lost(measured[case, "domain-fixed"], exposed)
    found = []
    for case, ways in models.items():
        for way, it in ways.items():
            others = [lost[other][way] for other in cases if other != case]
            typical = Lost(*(statistics.median(values) for values in zip(*others, strict=True)))
            found.append(
                Prediction(
                    case,
                    way,
                    it.alone,
                    measured[case, way],
                    it.seconds(2, typical),
                    {gpus: it.seconds(gpus, lost[case][way]) for gpus in it.share if gpus > 2},
                    it.communication,
                )
            )
    return found


def _models(
    case: str,
    measured: Mapping[tuple[str, str], float],
    exchanges: Sequence[Exchange],
    links: Sequence[Link],
) -> dict[str, Model]:
    own = [it for it in exchanges if it.case == case]
    (whole,) = (it.operations for it in own if it.way == "alone")
    models = {}
    for way in WAYS:
        counts = {it.gpus: it for it in own if it.way == way}
        models[way] = Model(
            measured[case, "alone"],
            {gpus: it.operations / whole for gpus, it in counts.items()},
            {gpus: _needed(it, links) for gpus, it in counts.items()},
            way == "domain-fixed",
        )
    return models


def _needed(it: Exchange, links: Sequence[Link]) -> float:
    found = needed(links, it.gpus, it.calls, it.sent)
    if found is None:
        raise ValueError(f"expected measured links of all kinds in {sorted(it.calls)}")
    return found
