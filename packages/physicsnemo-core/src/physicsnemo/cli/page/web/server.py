# SPDX-License-Identifier: Apache-2.0
"""The server of the page: on this machine alone, for as long as the command runs."""

import logging
import socket
from typing import Any

import panel as pn

from physicsnemo.cli.page.web.page import make_page
from physicsnemo.core.rebuild.resolution import Trusted

_ADDRESS = "127.0.0.1"


def make_server(file: str, trusted: Trusted, port: int, open_browser: bool) -> tuple[Any, str]:
    """Return a server of the page of a file, to be started, and where it is.

    Parameters
    ----------
    file
        A path, or a URL that fsspec knows.
    trusted
        As for :meth:`physicsnemo.Module.from_checkpoint`.
    port
        Where it listens; 0 takes one that is free.
    open_browser
        Whether the page opens in the user's browser.

    Raises
    ------
    OSError
        If the port is taken.
    """
    logging.getLogger("bokeh").setLevel(logging.WARNING)
    pn.extension("filedropper")
    port = _free_port(port)
    server = pn.serve(
        {"/": lambda: make_page(file, trusted)},
        address=_ADDRESS,
        port=port,
        # Pages of other sites cannot reach the server through the user's browser.
        websocket_origin=[f"{_ADDRESS}:{port}", f"localhost:{port}"],
        show=open_browser,
        start=False,
        verbose=False,
        title=f"{file} - physicsnemo show",
        location=False,
    )
    return server, f"http://{_ADDRESS}:{port}"


def run_until_stopped(server: Any) -> None:
    """Serve until the user presses Ctrl+C."""
    server.start()
    server.io_loop.start()


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_ADDRESS, port))
        except OSError as error:
            raise OSError(f"port {port} is taken or not allowed: {error.strerror}") from error
        return int(probe.getsockname()[1])
