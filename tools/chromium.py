# SPDX-License-Identifier: Apache-2.0
"""Chromium without a window, for tests of pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium(profile: Path) -> Iterator[Chrome]:
    """Start Chromium with a profile in a folder that is empty, and end it afterwards.

    Raises
    ------
    FileNotFoundError
        If it or its driver is not installed.
    """
    options = ChromeOptions()
    options.binary_location = _program("chromium", "google-chrome")
    for option in (*_OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    driver = Chrome(options=options, service=Service(_program("chromedriver")))
    driver.implicitly_wait(10)
    try:
        yield driver
    finally:
        driver.quit()


@contextmanager
def screen(driver: Chrome, width: int, height: int = 900) -> Iterator[None]:
    """Give pages a screen of a width, that of a telephone where it is narrow."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        yield
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def _program(*names: str) -> str:
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise FileNotFoundError(f"these tests need {' or '.join(names)}: install it first")
    return found
