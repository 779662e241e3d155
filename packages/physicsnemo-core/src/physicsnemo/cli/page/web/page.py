# SPDX-License-Identifier: Apache-2.0
"""The page: what the file holds, the choice of inputs, a button to run, and what came of it."""

import asyncio
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import panel as pn

from physicsnemo.cli.page.inputs import Call, InputError, as_input, described, random_call
from physicsnemo.cli.page.runs import Run, RunError, Runner
from physicsnemo.cli.page.tensors import positions_in
from physicsnemo.cli.page.text import as_html, facts_html
from physicsnemo.cli.page.uploads import LARGEST, UploadError, list_arrays, read_array
from physicsnemo.cli.page.web.fields import FieldView
from physicsnemo.cli.page.web.style import FRAME, STYLE
from physicsnemo.core.errors import shown
from physicsnemo.core.rebuild.resolution import Trusted

_EXAMPLE, _FILE, _RANDOM = "Example in the file", "A file of yours", "Random numbers"
_WIDE = {"sizing_mode": "stretch_width", "margin": (4, 0)}


def make_page(file: str, trusted: Trusted) -> Any:
    """Return the page of a file, as it is now; a damaged file makes one that says so."""
    frame = pn.Template(FRAME)
    title = f"<h1>{as_html(shown(PurePath(file).name or file))}</h1>"
    try:
        facts, example, problem = _read(runner := Runner(file, trusted))
    except OSError as error:
        content = [_html(title), _message(str(error), "error")]
    else:
        content = [_html(title + facts), Workbench(runner, example, problem).view]
    frame.add_panel("page", pn.Column(*content, sizing_mode="stretch_width"))
    return frame


def _read(runner: Runner) -> tuple[str, Call | None, str]:
    """Return facts, inputs of the example if any, and what is wrong with it."""
    facts = facts_html(runner.file)
    try:
        return facts, runner.example(), ""
    except OSError as error:
        return facts, None, str(error)


class Workbench:
    """The part of the page that runs the model.

    Parameters
    ----------
    runner
        The model.
    example
        Inputs of the example in its file, None without one.
    problem
        What is wrong with the example, if anything.
    """

    def __init__(self, runner: Runner, example: Call | None, problem: str = "") -> None:
        self._runner, self._example = runner, example
        sources = [*([_EXAMPLE] if example else []), _FILE, _RANDOM]
        self._source = pn.widgets.RadioBoxGroup(
            options=sources, value=sources[0], inline=True, margin=(4, 0)
        )
        self._shapes = pn.widgets.TextInput(
            name="Shape of each input, as in 1,3,64,64 or x=8,3 labels=8:10",
            value=described(example) if example else "",
            placeholder="1,3,64,64",
            **_WIDE,
        )
        self._upload = pn.widgets.FileDropper(
            max_file_size=f"{LARGEST // 2**20}MB", css_classes=["upload"], **_WIDE
        )
        self._variable = pn.widgets.Select(name="Variable of the file", **_WIDE)
        names = list(example.tensors) if example else []
        self._slot = pn.widgets.Select(
            name="It takes the place of, in the example", options=names, **_WIDE
        )
        self._button = pn.widgets.Button(
            name="Run the model", button_type="success", css_classes=["run"], margin=(8, 0)
        )
        self._message = pn.Column(sizing_mode="stretch_width")
        self._input, self._output = FieldView("Input", "input"), FieldView("Output", "output")
        self._source.param.watch(self._choose_source, "value")
        self._upload.param.watch(self._choose_file, "value")
        self._button.on_click(self._run)
        self._choose_source()
        if problem:
            self._tell(problem, "error")
        lead = "The button loads the model, as from_checkpoint does: until then, nothing has run."
        self.view = pn.Column(
            _html(f"<h2>Run the model</h2><p class='lead'>{lead}</p>"),
            *(self._source, self._shapes, self._upload, self._variable, self._slot),
            *(self._button, self._message),
            pn.FlexBox(
                self._input.view, self._output.view, gap="0 32px", sizing_mode="stretch_width"
            ),
            sizing_mode="stretch_width",
        )

    def _choose_source(self, *events: Any) -> None:
        source = self._source.value
        self._shapes.visible = source == _RANDOM
        self._upload.visible = source == _FILE
        self._slot.visible = source == _FILE and len(self._slot.options) > 1
        self._variable.visible = source == _FILE and len(self._variable.options) > 1

    def _choose_file(self, *events: Any) -> None:
        """List the arrays of a file that has been given."""
        self._message.clear()
        arrays: dict[str, tuple[int, ...]] = {}
        try:
            if self._upload.value:
                arrays = list_arrays(*self._uploaded())
        except UploadError as error:
            self._tell(str(error), "error")
        self._variable.options = {f"{shown(key)} {shape}": key for key, shape in arrays.items()}
        self._variable.value = next(iter(arrays), None)
        self._choose_source()

    def _uploaded(self) -> tuple[str, bytes]:
        """Return name and bytes of the last file that has been given."""
        if not self._upload.value:
            raise InputError("expected a .npy or .nc file: choose one first")
        name, content = list(self._upload.value.items())[-1]
        return name, content.encode() if isinstance(content, str) else content

    async def _run(self, *events: Any) -> None:
        """Run the model in another thread, so that the page stays alive."""
        self._button.param.update(disabled=True, name="Running ...")
        self._message.clear()
        try:
            run = await asyncio.to_thread(self._make_run, self._call_maker())
        except (InputError, UploadError, RunError) as error:
            self._tell(str(error), "error")
            self._input.show({}, None)
            self._output.show({}, None)
        else:
            self._show(run)
        finally:
            self._button.param.update(disabled=False, name="Run the model")

    def _make_run(self, make_call: Callable[[], Call]) -> Run:
        return self._runner.run(make_call())

    def _call_maker(self) -> Callable[[], Call]:
        """Return what makes the inputs, of widgets as they are now."""
        source, text, example = self._source.value, self._shapes.value, self._example
        if source == _EXAMPLE and example is not None:
            return lambda: example
        if source == _RANDOM:
            return lambda: random_call(text)
        (name, content), variable = self._uploaded(), self._variable.value
        slot = self._slot.value
        return lambda: self._call_of(read_array(name, content, variable), slot)

    def _call_of(self, array: Any, slot: str | None) -> Call:
        """Return the example with an array in the place of a tensor, or the array alone."""
        if self._example is None or slot is None:
            return Call((as_input(array, "the input", None, self._runner.dtype()),), {})
        like = self._example.tensors[slot]
        return self._example.with_tensor(slot, as_input(array, slot, like, like.dtype))

    def _show(self, run: Run) -> None:
        done = f"Ran in {run.seconds:.3g} s."
        if run.finding is not None:
            done += f" Compared with the file: {run.finding}."
        if not run.outputs:
            done += " It returned no tensor."
        positions = positions_in(run.inputs)
        self._input.show(run.inputs, positions)
        self._output.show(run.outputs, positions)
        self._tell(done, "good" if run.agrees else "error")

    def _tell(self, text: str, kind: str) -> None:
        self._message[:] = [_message(text, kind)]


def _html(content: str) -> Any:
    return pn.pane.HTML(content, stylesheets=[STYLE], **_WIDE)


def _message(text: str, kind: str) -> Any:
    role = "alert" if kind == "error" else "status"
    return _html(f'<div class="message {kind}" role="{role}">{as_html(text)}</div>')
