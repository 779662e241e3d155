# SPDX-License-Identifier: Apache-2.0
"""The table of files by release is what the stored files say."""

from tools.release_table import PAGES, compared, with_table


def test_pages_carry_the_current_table():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert with_table(text) == text, "run python -m tools.release_table"


def test_files_of_every_release_series_are_compared():
    releases = set().union(*compared().values())
    assert releases >= {"1.2", "1.3", "2.0", "2.1"}
