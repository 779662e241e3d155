# SPDX-License-Identifier: Apache-2.0
"""A part of the page that draws tensors: one of them, and the choices that its axes leave."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import panel as pn
from torch import Tensor

from physicsnemo.cli.page.layouts import Array, Layout, layouts
from physicsnemo.cli.page.pictures import as_png, draw
from physicsnemo.cli.page.tensors import as_npy, numbers_of, tensor_line
from physicsnemo.cli.page.text import as_html
from physicsnemo.cli.page.web.style import STYLE


class FieldView:
    """A picture of a tensor, with widgets to choose what it shows.

    Parameters
    ----------
    title
        What the tensors are, such as ``Output``.
    file
        How a file with one of them is called, less its suffix.
    """

    def __init__(self, title: str, file: str) -> None:
        self._title = title
        self._tensors: dict[str, Tensor] = {}
        self._numbers: dict[str, Array] = {}
        self._positions: Array | None = None
        self._drawn: Any = None
        wide = {"sizing_mode": "stretch_width", "margin": (4, 0)}
        self._which = pn.widgets.Select(name="Tensor", **wide)
        self._layout = pn.widgets.Select(name="Drawn as", **wide)
        self._sliders: dict[int, Any] = {}
        self._places = pn.Column(**wide)
        self._picture = pn.pane.HTML("", stylesheets=[STYLE], **wide)
        self._line = pn.pane.HTML("", stylesheets=[STYLE], **wide)
        self._download = pn.widgets.FileDownload(
            callback=self._file, filename=f"{file}.npy", label=f"Download {file}.npy", margin=(4, 0)
        )
        self._which.param.watch(self._choose_tensor, "value")
        self._layout.param.watch(self._choose_layout, "value")
        heading = pn.pane.HTML(f"<h2>{as_html(title)}</h2>", stylesheets=[STYLE], **wide)
        self.view = pn.Column(
            *(heading, self._which, self._layout, self._places),
            *(self._picture, self._line, self._download),
            css_classes=["field", title.lower()],
            styles={"flex": "1 1 340px", "min-width": "0", "max-width": "600px"},
            visible=False,
        )

    def show(self, tensors: Mapping[str, Tensor], positions: Array | None) -> None:
        """Draw tensors in the place of those before.

        Parameters
        ----------
        tensors
            By names for people.
        positions
            Of mesh nodes, if they are known.
        """
        self._tensors, self._positions = dict(tensors), positions
        self._numbers, self._drawn = {}, None
        self.view.visible = bool(tensors)
        names = list(tensors)
        self._which.param.update(options=names, visible=len(names) > 1)
        if names:
            # The choice may be the one before, of which no change is told.
            self._which.value = names[0]
            self._choose_tensor()

    def _choose_tensor(self, *events: Any) -> None:
        tensor = self._tensors.get(self._which.value)
        if tensor is None:
            return
        name = self._which.value
        self._numbers.setdefault(name, numbers_of(tensor))
        nodes = None if self._positions is None else len(self._positions)
        ways = {it.label: it for it in layouts(tuple(tensor.shape), nodes)}
        before = self._layout.value
        self._layout.options = ways
        kept = before if before in ways.values() else next(iter(ways.values()))
        self._layout.value = kept
        self._line.object = f"<p class='numbers'>{as_html(tensor_line(tensor))}</p>"
        self._choose_layout()

    def _choose_layout(self, *events: Any) -> None:
        layout: Layout | None = self._layout.value
        numbers = self._numbers.get(self._which.value)
        if layout is None or numbers is None or layout.shape != numbers.shape:
            return
        before = {axis: it.value for axis, it in self._sliders.items()}
        self._sliders = {
            axis: _slider(name, layout.shape[axis], before.get(axis, layout.middle(axis)))
            for axis, name in layout.chosen.items()
        }
        for slider in self._sliders.values():
            slider.param.watch(self._draw, "value_throttled")
        self._places[:] = list(self._sliders.values())
        self._draw()

    def _draw(self, *events: Any) -> None:
        layout: Layout = self._layout.value
        chosen = {axis: slider.value for axis, slider in self._sliders.items()}
        wanted = (self._which.value, layout, chosen)
        if wanted == self._drawn:  # several widgets may tell of one choice
            return
        self._drawn = wanted
        numbers = self._numbers[self._which.value]
        picture = as_png(draw(numbers, layout, chosen, self._positions))
        at = ", ".join(f"{layout.chosen[axis]} {index}" for axis, index in chosen.items())
        what = f"{self._which.value}: {layout.label}{', at ' if at else ''}{at}"
        source = f"data:image/png;base64,{b64encode(picture).decode()}"
        self._picture.object = f'<img alt="{as_html(what)}" src="{source}">'

    def _file(self) -> Any:
        return as_npy(self._tensors[self._which.value])


def _slider(name: str, size: int, value: int) -> Any:
    return pn.widgets.IntSlider(
        name=name,
        start=0,
        end=size - 1,
        value=min(value, size - 1),
        sizing_mode="stretch_width",
        margin=(4, 8),
    )
