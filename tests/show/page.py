# SPDX-License-Identifier: Apache-2.0
"""The page of ``physicsnemo show`` as a browser has it, whose widgets keep to shadow trees."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

T = TypeVar("T")

_FIND = """
const found = [];
const look = (root) => {
  for (const it of root.querySelectorAll("*")) {
    if (it.matches(arguments[0])) found.push(it);
    if (it.shadowRoot) look(it.shadowRoot);
  }
};
look(document);
return found;
"""
_SECONDS = 60
RUN = "Run the model"


@contextmanager
def served(file: Path, *options: str) -> Iterator[str]:
    """Run the command on a file in its folder, give the address, and end it by Ctrl+C."""
    command = [sys.executable, "-m", "physicsnemo", "show", file.name, "--no-browser", *options]
    process = subprocess.Popen(
        command, cwd=file.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.fullmatch(
        rf"{file.name} is shown at (http://127\.0\.0\.1:\d+); Ctrl\+C ends that\n", line
    )
    if found is None:
        process.kill()
        raise AssertionError(f"{line}{process.communicate()[1]}")
    try:
        yield found[1]
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=_SECONDS)
    assert process.returncode == 0
    assert "Traceback" not in errors


class Page:
    """An open page."""

    def __init__(self, driver: "Chrome", address: str) -> None:
        self._driver = driver
        driver.get(address)
        self.wait(lambda: self.find("h1"))

    def find(self, selector: str) -> "list[WebElement]":
        """Return what a selector fits, in shadow trees too."""
        return list(self._driver.execute_script(_FIND, selector))

    def wait(self, look: Callable[[], T]) -> T:
        """Return what a function returns, once that is true."""
        end = time.monotonic() + _SECONDS
        while not (found := self._tried(look)):
            assert time.monotonic() < end, f"waited in vain; there is {self.texts('div, label')}"
            time.sleep(0.2)
        return found

    def texts(self, selector: str) -> list[str]:
        """Return the texts of what a selector fits."""
        return [it.text.strip() for it in self.find(selector) if it.text.strip()]

    def choose(self, label: str) -> None:
        """Choose where inputs come from."""
        self.wait(lambda: self._with_text("label", label)).click()

    def button(self, label: str) -> "WebElement":
        """Return the button of that label."""
        return self._with_text("button, a", label)

    def type(self, text: str) -> None:
        """Write a text in the place of what stands in the field for shapes."""
        field = self.wait(
            lambda: next(it for it in self.find("input[type=text]") if it.is_displayed())
        )
        field.clear()
        field.send_keys(f"{text}\n")

    def upload(self, path: Path) -> None:
        """Give a file, and wait until it has arrived."""
        self.wait(lambda: self.find("input[type=file]"))[0].send_keys(str(path))
        name = path.name
        self.wait(lambda: any(name in it and "complete" in it for it in self.texts("fieldset, li")))

    def run(self) -> str:
        """Run the model, and return what the page says then."""
        self._forget_message()
        self.button(RUN).click()
        return self.message()

    def message(self) -> str:
        """Return what the page says of the run, when that is over."""

        def over() -> str:
            texts = self.texts("div.message")
            return texts[0] if texts and self.button(RUN).is_enabled() else ""

        return self.wait(over)

    def pictures(self) -> dict[str, Any]:
        """Return the pictures that are there, by what they say they are."""
        script = "return arguments[0].complete && arguments[0].naturalWidth > 300"
        found = self.find("img[alt]")
        assert all(self.wait(lambda it=it: self._driver.execute_script(script, it)) for it in found)
        return {str(it.get_attribute("alt")): it.get_attribute("src") for it in found}

    def _forget_message(self) -> None:
        for it in self.find("div.message"):
            self._driver.execute_script("arguments[0].remove()", it)

    def _with_text(self, selector: str, text: str) -> "WebElement":
        return next(it for it in self.find(selector) if it.text.strip() == text)

    @staticmethod
    def _tried(look: Callable[[], T]) -> T | None:
        from selenium.common.exceptions import StaleElementReferenceException

        try:
            return look()
        except (StaleElementReferenceException, StopIteration, IndexError):  # the page is changing
            return None
