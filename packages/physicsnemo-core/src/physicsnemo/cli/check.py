# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo check``: the conformance kit, for an installed model."""

import runpy
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from physicsnemo import testing
from physicsnemo.cli._output import complain, json_option, print_as_they_come, print_json
from physicsnemo.cli._parameters import (
    RandomInput,
    complete_models,
    draw_inputs,
    inputs_option,
    read_object,
)
from physicsnemo.registry import ModelRegistry

if TYPE_CHECKING:
    from physicsnemo.testing import Case, Result


@click.command("check")
@click.argument("name", shell_complete=complete_models)
@click.option(
    "--args", "arguments", metavar="JSON", callback=read_object, help="Constructor arguments."
)
@inputs_option
@click.option(
    "--cases",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A Python file to run, with a list CASES; those of this model are tried.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--quick", is_flag=True, help="Leave out compilers and ONNX, which take seconds each."
)
@json_option
def check_model(
    name: str,
    arguments: dict[str, Any] | None,
    inputs: list[RandomInput],
    path: Path | None,
    device: str,
    quick: bool,
    as_json: bool,
) -> None:
    """Test the installed model NAME.

    Tries all that physicsnemo.testing expects of models: that it is saved and rebuilt, copied,
    differentiated, compiled, and what its metadata claims. Show the model at work by --input and
    --args, or by --cases where inputs are more than random numbers, where the first axis does not
    count independent samples, or where checks are excepted for a reason.
    """
    if bool(path) == bool(inputs):
        raise click.UsageError("give either --input (and --args), or --cases")
    if path and arguments is not None:
        raise click.UsageError("--args goes with --input; the cases have arguments of their own")
    if not quick and (missing := [it for it in testing.ONNX_LIBRARIES if find_spec(it) is None]):
        install = "run pip install 'physicsnemo-core[onnx]'"
        complain(f"flags of ONNX are not tried without {', '.join(missing)}; for them, {install}")
    if (error := ModelRegistry().describe(name).error) is not None:
        raise click.ClickException(error)
    cases = _cases_in(path, name) if path else [_case(name, arguments or {}, inputs)]
    results: dict[str, list[Result]] = {str(case): [] for case in cases}
    for case, found in zip(cases, results.values(), strict=True):
        each = testing.each_result(case, device, expensive=not quick)
        if as_json:
            found += each
        else:
            rows = (_row(it) for it in _kept(each, found))
            print_as_they_come(str(case), ("check", "result", "time", "reason"), rows)
    if as_json:
        print_json({case: list(map(_content, found)) for case, found in results.items()})
    outcomes = {result.outcome for found in results.values() for result in found}
    sys.exit(1 if "failed" in outcomes else 0)


def _kept(results: "Iterator[Result]", found: "list[Result]") -> "Iterator[Result]":
    """Yield results and keep them."""
    for result in results:
        found.append(result)
        yield result


def _row(result: "Result") -> list[str]:
    return [result.check, result.outcome, f"{result.seconds:.1f} s", _reason(result)]


def _case(name: str, arguments: dict[str, Any], inputs: list[RandomInput]) -> "Case":
    return testing.Case("command-line", name, arguments, lambda: draw_inputs(inputs))


def _cases_in(path: Path, name: str) -> "list[Case]":
    cases = runpy.run_path(str(path)).get("CASES", [])
    model_class = ModelRegistry().factory(name)
    if not (chosen := [case for case in cases if case.model_class is model_class]):
        raise click.ClickException(f"{path} has no case of {name} in a list CASES")
    return chosen


def _reason(result: "Result") -> str:
    if result.outcome == "excepted":
        return result.reason or ""
    if result.error is None:
        return ""
    kind = f"{type(result.error).__name__}: " if result.outcome == "failed" else ""
    return f"{kind}{result.error}"


def _content(result: "Result") -> dict[str, Any]:
    return {**vars(result), "error": _reason(result) or None}
