# SPDX-License-Identifier: Apache-2.0
"""Versions of the site that lie beside each other lead to the same page of another."""

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from physicsnemo import __version__

SITE = Path(__file__).resolve().parents[2] / "_build"


@pytest.fixture
def versions(tmp_path: Path) -> Iterator[str]:
    """Where two versions are served."""
    for name in (__version__, "9.9.9"):
        (tmp_path / name).symlink_to(SITE)
    (tmp_path / "versions.json").write_text(json.dumps(["9.9.9", __version__]))
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_another_version_of_the_same_page(browser: Chrome, versions: str) -> None:
    browser.get(f"{versions}/{__version__}/models/cards/FNO.html")
    wait = WebDriverWait(browser, 10)
    wait.until(lambda it: len(it.find_elements(By.CSS_SELECTOR, "#versions option")) == 2)
    choice = Select(browser.find_element(By.ID, "versions"))
    assert choice.first_selected_option.text == __version__
    choice.select_by_visible_text("9.9.9")
    wait.until(lambda it: it.current_url == f"{versions}/9.9.9/models/cards/FNO.html")


def test_a_version_alone(browser: Chrome, address: str) -> None:
    browser.get(f"{address}/index.html")
    choice = Select(browser.find_element(By.ID, "versions"))
    assert [it.text for it in choice.options] == [__version__]
