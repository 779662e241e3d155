# SPDX-License-Identifier: Apache-2.0
"""Numerics are the paper's, or those of a release, which has the oddities that the table says."""

import re

import pytest

from physicsnemo.nn.numerics import ODDITIES, PAPER, RELEASES, check_numerics, has_oddity, implied


def test_known():
    for numerics in (PAPER, *(f"reference-{release}" for release in RELEASES)):
        check_numerics(numerics)


def test_unknown():
    expected = (
        "one of paper, reference-1.2, reference-1.3, reference-2.0, reference-2.1, "
        "reference-2.2, got 'reference'"
    )
    with pytest.raises(ValueError, match=re.escape(expected)):
        check_numerics("reference")


@pytest.mark.parametrize(
    ("name", "releases"),
    [
        ("heads_split_pixels", ["1.2"]),
        ("sines_before_cosines", ["1.2"]),
        ("swapped_pads", ["1.2", "1.3"]),
        ("fixed_neighbours", ["1.2", "1.3"]),
        ("summed_corners", ["2.0", "2.1", "2.2"]),
        ("latitude_roll", ["1.2", "1.3", "2.0"]),
        ("unbiased_variance", ["1.2", "1.3", "2.0", "2.1", "2.2"]),
    ],
)
def test_releases_with_an_oddity(name, releases):
    assert [r for r in RELEASES if has_oddity(f"reference-{r}", name)] == releases
    assert not has_oddity(PAPER, name)


def test_releases_that_agree_are_the_same_to_a_class():
    by_release = implied("latitude_roll", "dateline_mask")
    assert list(by_release) == list(RELEASES)
    old, new = by_release["1.2"]["numerics"], by_release["2.1"]["numerics"]
    assert old.value == "reference-1.2"
    assert old.same == ("reference-1.2", "reference-1.3", "reference-2.0")
    assert new.means("reference-2.2")
    assert not new.means("reference-2.0")


def test_every_oddity_says_what_it_is():
    assert all(oddity.what and oddity.models for oddity in ODDITIES.values())
