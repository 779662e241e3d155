# SPDX-License-Identifier: Apache-2.0
"""Pages in a browser: the table that finds models, and nothing that leaves the screen."""

from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from physicsnemo.core.install.entry_points import shipped_models
from tools.chromium import screen

SITE = Path(__file__).resolve().parents[2] / "_build"
PAGES = sorted(
    str(path.relative_to(SITE))
    for pattern in ("*.html", "models/*.html", "models/cards/*.html", "api/*.html")
    for path in SITE.glob(pattern)
)
WIDTHS = (390, 1280)
"""Widths of screens, of a telephone and of another one."""

OUTSIDE = """
const width = document.documentElement.clientWidth;
const scrolls = "pre, table, .pst-scrollable-table-container, .architecture-frame, .math-block";
return [...document.querySelectorAll(".bd-article *")]
  .filter((it) => !it.closest(scrolls) && !it.closest("svg, math"))
  .filter((it) => it.getBoundingClientRect().right > width + 1)
  .map((it) => it.textContent.trim().slice(0, 60));
"""


WIDE = 1280
TOO_LONG = """
return [...document.querySelectorAll(".bd-article pre, .bd-article dt.sig")]
  .filter((it) => it.scrollWidth > it.clientWidth + 1)
  .map((it) => it.textContent.slice(0, 60));
"""
"""Code and signatures that a wide screen does not show without scrolling."""


def shown(browser: Chrome) -> list[str]:
    """Return the models that the table shows, in its order."""
    return column(browser, 1)


def column(browser: Chrome, number: int) -> list[str]:
    """Return what a column holds in the rows that are shown."""
    cells = f"table.finder tbody tr:not([hidden]) td:nth-child({number})"
    script = "return [...document.querySelectorAll(arguments[0])].map(it => it.textContent.trim())"
    return [str(text) for text in browser.execute_script(script, cells)]


def sort(browser: Chrome, heading: str) -> None:
    """Click a heading."""
    button = browser.find_element(By.XPATH, f"//table//th/button[text()='{heading}']")
    browser.execute_script("arguments[0].click()", button)


def test_the_table_has_every_model(browser: Chrome, address: str) -> None:
    browser.get(f"{address}/models/find.html")
    assert set(shown(browser)) == set(shipped_models())


def test_cards_of_the_home_page_choose_rows(browser: Chrome, address: str) -> None:
    browser.get(f"{address}/index.html")
    browser.find_element(By.XPATH, "//a[contains(@href, 'data=mesh')]").send_keys("\n")
    found = shown(browser)
    assert {"MeshGraphNet", "BiStrideMeshGraphNet"} <= set(found)
    assert "FNO" not in found
    assert f"{len(found)} of" in browser.find_element(By.TAG_NAME, "output").text


def test_rows_are_chosen_and_sorted(browser: Chrome, address: str) -> None:
    browser.get(f"{address}/models/find.html")
    choice = browser.find_element(By.CSS_SELECTOR, "select[aria-label=Data]")
    Select(choice).select_by_visible_text("HEALPix grid")
    assert set(shown(browser)) == {"HEALPixUNet", "HEALPixRecUNet"}
    Select(choice).select_by_visible_text("Data: any")
    browser.find_element(By.CSS_SELECTOR, "input[aria-label='Any words']").send_keys("li 2020")
    assert "FNO" in shown(browser)
    assert "Pangu" not in shown(browser)


def test_numbers_are_sorted_as_numbers_and_unknown_ones_come_last(
    browser: Chrome, address: str
) -> None:
    browser.get(f"{address}/models/find.html")
    sort(browser, "Parameters, M")
    found = column(browser, 10)
    assert [float(it) for it in found] == sorted(map(float, found))
    for falling in (False, True):
        sort(browser, "Step, ms")
        found = column(browser, 11)
        known = [float(it) for it in found if it != "-"]
        assert found[len(known) :] == ["-"] * (len(found) - len(known))
        assert known == sorted(known, reverse=falling)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", PAGES)
def test_nothing_leaves_the_screen(page: str, width: int, browser: Chrome, address: str) -> None:
    with screen(browser, width):
        browser.get(f"{address}/{page}")
        assert browser.execute_script(OUTSIDE) == []
        if width >= WIDE:
            assert browser.execute_script(TOO_LONG) == []
