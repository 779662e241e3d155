# SPDX-License-Identifier: Apache-2.0
"""The page of ``physicsnemo show``, in Chromium."""

import http.client
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.format.container import write_checkpoint
from physicsnemo.models.fno import FNO
from physicsnemo.models.mlp import FullyConnected
from tests.show.page import Page, served

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.browser
WIDTHS = (390, 1280)
SMALL = {"latent_channels": 4, "num_fno_layers": 1, "num_fno_modes": 3, "decoder_layer_size": 8}
EXAMPLE = torch.randn(2, 2, 16, 24, generator=torch.Generator().manual_seed(0))
OUTSIDE = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
LOADED = "return performance.getEntriesByType('resource').map((it) => it.name)"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Chrome]":
    """A browser that saves what it downloads in a folder."""
    from tools.chromium import chromium

    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        driver.implicitly_wait(0)
        yield driver


@pytest.fixture(scope="module")
def fno(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with an example in two dimensions."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("fno") / "fno.mdlus"
    FNO(in_channels=2, out_channels=3, dimension=2, padding=0, **SMALL).save(
        path, example=(EXAMPLE,)
    )
    return path


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file without an example."""
    path = tmp_path_factory.mktemp("mlp") / "mlp.mdlus"
    FullyConnected(in_features=3, out_features=2, layer_size=8, num_layers=1).save(path)
    return path


@pytest.fixture(scope="module")
def at_fno(fno: Path) -> Iterator[str]:
    """Where that file is shown."""
    with served(fno) as address:
        yield address


def test_the_example_is_run_and_drawn(driver: "Chrome", fno: Path, at_fno: str, tmp_path: Path):
    page = Page(driver, at_fno)
    assert page.texts("h1") == ["fno.mdlus"]
    assert "physicsnemo.models.fno.fno.FNO" in page.texts("table.facts td")
    assert page.pictures() == {}
    message = page.run()
    assert message.startswith("Ran in ")
    assert "1 outputs, which differ by " in message
    label = "map of axis 2 and axis 3, at sample 0, channel 0"
    pictures = page.pictures()
    assert list(pictures) == [f"input: {label}", f"output: {label}"]
    assert len(set(pictures.values())) == 2
    assert all(it.startswith(at_fno) for it in driver.execute_script(LOADED) if "://" in it[:8])

    folder = {"behavior": "allow", "downloadPath": str(tmp_path)}
    driver.execute_cdp_cmd("Page.setDownloadBehavior", folder)
    page.button("Download output.npy").click()
    found = tmp_path / "output.npy"
    page.wait(found.exists)
    expected = Module.from_checkpoint(fno).eval()(EXAMPLE).detach().numpy()
    assert np.allclose(np.load(found), expected, atol=1e-6)


def test_sliders_choose_what_is_drawn(driver: "Chrome", at_fno: str):
    page = Page(driver, at_fno)
    page.run()
    before = page.pictures()
    handle = page.find(".noUi-handle")[3]  # of the output's channels
    handle.send_keys("\ue014")  # the arrow to the right
    label = "output: map of axis 2 and axis 3, at sample 0, channel 1"
    page.wait(lambda: label in page.pictures())
    after = page.pictures()
    assert len(after.keys() & before.keys()) == 1  # that of the input stays
    assert after[label] not in before.values()


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_leaves_the_screen(driver: "Chrome", at_fno: str, width: int, tmp_path: Path):
    from tools.chromium import screen

    with screen(driver, width):
        page = Page(driver, at_fno)
        page.run()
        assert len(page.pictures()) == 2
        for it in page.find("summary"):
            it.click()
        assert driver.execute_script(OUTSIDE) <= 0
        page.choose("A file of yours")
        page.wait(lambda: page.find("input[type=file]"))
        assert driver.execute_script(OUTSIDE) <= 0


def test_a_file_of_the_users(driver: "Chrome", mlp: Path, tmp_path: Path):
    import h5netcdf

    x = np.random.default_rng(0).normal(size=(40, 3))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "wrong.npy", x[:, :2])
    np.save(tmp_path / "pickled.npy", np.array([{}]), allow_pickle=True)
    with h5netcdf.File(tmp_path / "x.nc", "w") as data:
        data.dimensions = {"point": 40, "coordinate": 3}
        data.create_variable("weight", ("point",), data=x[:, 0])
        data.create_variable("x", ("point", "coordinate"), data=x)
    with served(mlp) as address:
        page = Page(driver, address)
        assert page.run() == "expected a .npy or .nc file: choose one first"
        page.upload(tmp_path / "x.npy")
        assert page.run().startswith("Ran in ")
        label = "line along sample, at feature 0"
        assert list(page.pictures()) == [f"input: {label}", f"output: {label}"]
        assert page.texts("p.numbers")[0].startswith("float32 (40, 3); from ")
        first = page.pictures()
        page.upload(tmp_path / "wrong.npy")
        wrong = page.run()
        assert wrong.startswith("FullyConnected fails on input of shape (40, 2): ")
        assert "in_features=3" in wrong
        page.upload(tmp_path / "pickled.npy")
        assert "holds Python objects, which could run code" in page.message()
        page.upload(tmp_path / "x.nc")
        assert page.run().startswith("Ran in ")
        assert page.pictures() == first


def test_random_numbers(driver: "Chrome", mlp: Path):
    with served(mlp) as address:
        page = Page(driver, address)
        page.choose("Random numbers")
        page.type("5;3")
        assert page.run() == "expected sizes, as in 8,3 or x=8,3 or 8:10, got '5;3'"
        page.type("5,3")
        assert page.run().startswith("Ran in ")
        assert page.texts("p.numbers")[1].startswith("float32 (5, 2); from ")


def test_nothing_of_a_hostile_file_runs(driver: "Chrome", tmp_path: Path):
    evil = "<img src=x onerror='window.hurt=1'>"
    (tmp_path / "trap.py").write_text("open('executed', 'w')")
    path = tmp_path / "evil.mdlus"
    record = {"__name__": "Net", "__module__": "trap", "__args__": {evil: evil}}
    write_checkpoint(path, {evil: torch.ones(1)}, record, {"written_by": evil})
    with served(path) as address:
        page = Page(driver, address)
        assert evil in page.texts("table.facts td")
        page.choose("Random numbers")
        page.type("5,3")
        assert "neither imported nor registered: import trap first" in page.run()
        assert page.find("img") == []
        assert driver.execute_script("return window.hurt") is None
    assert not (tmp_path / "executed").exists()


def test_a_module_that_the_user_trusts_and_one_input_of_several(
    driver: "Chrome", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "show_lab.py").write_text(
        "from physicsnemo import Module\n\n\nclass Double(Module):\n"
        "    def forward(self, x, pos=None):\n        return 2 * x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    positions = torch.rand(30, 2)
    inputs = {"x": torch.ones(30, 1), "pos": positions}
    import_module("show_lab").Double().save(tmp_path / "double.mdlus", example=inputs)
    np.save(tmp_path / "y.npy", positions.numpy()[:, :1])
    with served(tmp_path / "double.mdlus", "--trust", "show_lab") as address:
        page = Page(driver, address)
        page.choose("A file of yours")
        page.upload(tmp_path / "y.npy")
        assert page.run().startswith("Ran in ")
        assert list(page.pictures()) == [
            "x: values on mesh nodes",
            "output: values on mesh nodes",
        ]
        page.choose("Random numbers")
        page.type("1,12,1,2,4,4")
        assert page.run().startswith("Ran in ")
        assert all("faces, HEALPix" in it for it in page.pictures())


def test_a_file_that_is_damaged_meanwhile(driver: "Chrome", mlp: Path, tmp_path: Path):
    path = tmp_path / "model.mdlus"
    path.write_bytes(mlp.read_bytes())
    with served(path) as address:
        path.write_bytes(mlp.read_bytes()[:1000])
        page = Page(driver, address)
        assert "model.mdlus" in page.texts("div.message.error")[0]
        path.write_bytes(mlp.read_bytes())
        assert "mlp.fully_connected" in " ".join(Page(driver, address).texts("table.facts td"))


def test_a_damaged_file_ends_the_command(tmp_path: Path):
    (tmp_path / "model.mdlus").write_bytes(b"no model")
    command = [sys.executable, "-m", "physicsnemo", "show", "model.mdlus", "--no-browser"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1


def test_only_this_machine_and_only_the_page_reach_the_server(at_fno: str, fno: Path):
    port = int(at_fno.rpartition(":")[2])
    with socket.socket() as other:
        other.settimeout(5)
        assert other.connect_ex(("127.0.0.2", port)) != 0
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol": "bokeh, token",
    }
    for origin in ("http://example.org", "http://127.0.0.1:1"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/ws", headers=handshake | {"Origin": origin})
        assert connection.getresponse().status == 403
        connection.close()
    command = [sys.executable, "-m", "physicsnemo", "show", str(fno), "--port", str(port)]
    done = subprocess.run([*command, "--no-browser"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: port {port} is taken or not allowed: ")
