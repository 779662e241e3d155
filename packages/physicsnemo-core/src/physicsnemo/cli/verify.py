# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo verify``: whether a file would load."""

import sys
from dataclasses import asdict

import click

from physicsnemo.cli._output import json_option, print_json, print_table
from physicsnemo.cli._parameters import file_argument, import_trusted, trust_option
from physicsnemo.core import rebuild


@click.command("verify")
@file_argument
@trust_option
@json_option
def verify_file(file: str, modules: tuple[str, ...], as_json: bool) -> None:
    """Tell whether a .mdlus FILE would load.

    FILE is a path, or a URL that fsspec knows. Reads all of it, compares its weights with their
    checksums, and builds the model by the rules of loading: its class is one of an installed
    package or of a module that you trust, and nothing is imported because the file names it. If
    the file holds an example, the model is run on it, and has to return the same.
    """
    verdicts = rebuild.verify_checkpoint(file, import_trusted(modules))
    sound = all(verdict.passed for verdict in verdicts)
    if as_json:
        parts = [asdict(verdict) for verdict in verdicts]
        print_json({"file": file, "passed": sound, "parts": parts})
    else:
        rows = [[it.part, "passed" if it.passed else "failed", it.finding] for it in verdicts]
        rows += [[part, "not tried", ""] for part in rebuild.PARTS[len(rows) :]]
        print_table(file, ("part", "result", "finding"), rows)
    sys.exit(0 if sound else 1)
