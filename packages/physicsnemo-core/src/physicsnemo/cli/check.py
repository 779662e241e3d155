# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo check``: the conformance kit, for an installed model."""

import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import importlib_metadata
from packaging.requirements import Requirement

from physicsnemo import testing
from physicsnemo.cli._output import complain, json_option, print_json, print_table
from physicsnemo.cli._parameters import RandomInput, draw_inputs, inputs_option, read_object
from physicsnemo.registry import ModelRegistry

if TYPE_CHECKING:
    from physicsnemo.testing import Case, Result


@click.command("check")
@click.argument("name")
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
    if missing := _missing("testing"):
        _say_what_is_missing(missing, quick)
    if (error := ModelRegistry().describe(name).error) is not None:
        raise click.ClickException(error)
    cases = _cases_in(path, name) if path else [_case(name, arguments or {}, inputs)]
    results = {str(case): testing.run_checks(case, device, expensive=not quick) for case in cases}
    if as_json:
        print_json({case: list(map(_content, of_case)) for case, of_case in results.items()})
    else:
        for case, of_case in results.items():
            rows = [[result.check, result.outcome, _reason(result)] for result in of_case]
            print_table(case, ("check", "result", "reason"), rows)
    outcomes = {result.outcome for of_case in results.values() for result in of_case}
    sys.exit(1 if "failed" in outcomes else 0)


def _missing(extra: str) -> list[str]:
    """Return what an extra of this package brings and is not installed."""
    needed = map(Requirement, importlib_metadata.requires("physicsnemo-core") or [])
    brought = [it.name for it in needed if it.marker and it.marker.evaluate({"extra": extra})]
    return [name for name in brought if not _is_installed(name)]


def _say_what_is_missing(missing: list[str], quick: bool) -> None:
    """Complain where the checks can do without it, and stop where they cannot."""
    names, install = ", ".join(missing), "run pip install 'physicsnemo-core[testing]'"
    if not quick:
        raise click.ClickException(f"the checks need {names}: {install}, or choose --quick")
    complain(f"what needs {names} is not tried; for all checks, {install}")


def _is_installed(distribution: str) -> bool:
    try:
        importlib_metadata.version(distribution)
    except importlib_metadata.PackageNotFoundError:
        return False
    return True


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
