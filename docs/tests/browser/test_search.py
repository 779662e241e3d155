# SPDX-License-Identifier: Apache-2.0
"""The search of the site finds the right page first."""

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

FIRST = {
    "quickstart": "quickstart.html",
    "unstructured mesh": "models/gnn.html",
    "point cloud": "models/gnn.html",
    "ERA5": "models/weather.html",
    "fine-tune": "fine_tuning.html",
    "multi-GPU": "several_gpus.html",
    "performance": "performance.html",
    "resume": "resume.html",
    "mixed precision": "mixed_precision.html",
    "security": "security.html",
    "benchmark": "benchmark.html",
    "reproduce": "reproduce.html",
    "numerics": "numerics.html",
    "export": "export.html",
    "deploy": "export.html",
    "ONNX": "export.html",
    "autoregressive": "inference.html",
    "FNO": "models/cards/FNO.html",
    "downscaling": "models/diffusion.html",
    "ensemble": "ensemble.html",
}


@pytest.mark.parametrize("words", FIRST)
def test_the_right_page_comes_first(words: str, browser: Chrome, address: str) -> None:
    browser.get(f"{address}/search.html?q={words.replace(' ', '+')}")
    done = (By.CSS_SELECTOR, "#search-results .search-summary")
    WebDriverWait(browser, 20).until(lambda it: "found" in it.find_element(*done).text)
    first = browser.find_element(By.CSS_SELECTOR, "#search-results ul.search li a")
    found = (first.get_attribute("href") or "").removeprefix(f"{address}/")
    assert found.partition("#")[0].partition("?")[0] == FIRST[words]
