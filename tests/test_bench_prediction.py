# SPDX-License-Identifier: Apache-2.0
"""Predicted steps of more GPUs are those that they are made of."""

import pytest

from tools.bench.links import Link
from tools.bench.prediction import WAYS, Lost, Model, predictions
from tools.bench.scaling_traffic import Exchange

LINKS = [Link("all_reduce", 2, 1e-3, 1e9), Link("all_to_all", 2, 2e-3, 2e9)]


def exchanges(case: str, units: float) -> list[Exchange]:
    """Return what steps send that take the links as long as they have GPUs, in milliseconds."""
    found = [Exchange(case, "alone", 1, 8, 800, {}, {}, {})]
    for way in WAYS:
        for gpus in (2, 4, 8):
            operations = 800 // gpus if way == "domain-fixed" else 800
            sent = {"all_reduce": round(1e6 * (units * gpus - 1))}
            found.append(Exchange(case, way, gpus, 8, operations, {"all_reduce": 1}, sent, sent))
    return found


def test_what_is_lost_is_found_again() -> None:
    # Of communication a half is exposed; a fifth of the step does not become less with the rows.
    alone, exposed, kept = 0.1, 0.5, 0.2
    measured: dict[tuple[str, str], float] = {}
    for case in "ab":
        measured |= {
            (case, "alone"): alone,
            (case, "ddp"): alone + exposed * 0.002,
            (case, "fsdp"): alone + 0.002 + 0.05 * alone,
            (case, "domain-weak"): alone + exposed * 0.002,
            (case, "domain-fixed"): alone * (kept + (1 - kept) / 2) + exposed * 0.002,
        }
    found = predictions(measured, exchanges("a", 1.0) + exchanges("b", 1.0), LINKS)
    assert [(it.case, it.way) for it in found] == [(case, way) for case in "ab" for way in WAYS]
    for it in found:
        assert it.communication == pytest.approx({2: 0.002, 4: 0.004, 8: 0.008})
        assert it.two == measured[it.case, it.way]
        assert it.by_others == pytest.approx(it.two)  # the other one loses the same
        expected = {
            "ddp": {gpus: alone + exposed * 0.001 * gpus for gpus in (4, 8)},
            "fsdp": {gpus: alone + 0.001 * gpus + 0.05 * alone for gpus in (4, 8)},
            "domain-weak": {gpus: alone + exposed * 0.001 * gpus for gpus in (4, 8)},
            "domain-fixed": {
                gpus: alone * (kept + (1 - kept) / gpus) + exposed * 0.001 * gpus for gpus in (4, 8)
            },
        }
        assert it.steps == pytest.approx(expected[it.way])


def test_no_more_is_exposed_than_there_is() -> None:
    model = Model(1.0, {2: 1.0}, {2: 0.1}, fixed=False)
    assert model.lost(0.9) == pytest.approx(Lost(0.0, -0.1))
    assert model.lost(1.05) == pytest.approx(Lost(0.5, 0.0))
    assert model.lost(1.3) == pytest.approx(Lost(1.0, 0.2))
    assert model.seconds(2, model.lost(1.3)) == pytest.approx(1.3)


def test_links_of_all_kinds_are_needed() -> None:
    steps = exchanges("a", 1.0)
    measured = dict.fromkeys([("a", way) for way in ("alone", *WAYS)], 1.0)
    with pytest.raises(ValueError, match=r"measured links of all kinds in \['all_reduce'\]"):
        predictions(measured, steps, LINKS[1:])
