# SPDX-License-Identifier: Apache-2.0
"""Run the workflows of a project that ``physicsnemo new-plugin`` makes, as GitHub would.

Each job has a fresh environment and a copy of the project, and each ``run:`` of it is given to bash
as it stands. What ``uses:`` an action is that: a checkout, a Python, an upload. Core comes from a
wheel built here, all else from an index.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from tools.environment import CommandError, Environment, build_wheels
from tools.workspace import closure, packages

NAME, TAG = "weather-lab", "v0.1.0"
EXPRESSION = re.compile(r"\$\{\{ matrix\.(\w+) \}\}")


@dataclass(frozen=True)
class Job:
    """A job, for one entry of its matrix.

    Attributes
    ----------
    name
        The workflow's and its own, and what was chosen.
    commands
        What it runs.
    """

    name: str
    commands: list[str]


def main() -> int:
    """Run all jobs, and return 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--borrow",
        action="store_true",
        help="take what core needs, and one PyTorch, from the environment that runs this",
    )
    options = parser.parse_args()
    (core,) = closure("physicsnemo-core", packages())
    needed = [*core.dependencies, *core.extras["testing"]] if options.borrow else []
    failed = 0
    with TemporaryDirectory() as scratch:
        wheel = build_wheels({core.name: core.folder}, Path(scratch))[core.name]
        make = Fresh(Path(scratch), wheel, needed)
        project = make.project()
        for job in jobs(project, newest_only=options.borrow):
            try:
                run(
                    job, make.environment(job.name), shutil.copytree(project, make.folder(job.name))
                )
            except CommandError as error:
                failed += 1
                print(f"failed: {job.name}\n{error}", flush=True)
            else:
                print(f"passed: {job.name}", flush=True)
    return int(failed > 0)


@dataclass(frozen=True)
class Fresh:
    """Makes environments in which core is installed, and a project.

    Attributes
    ----------
    scratch
        Where to make them.
    wheel
        Of core.
    borrowed
        What is not to be installed again.
    """

    scratch: Path
    wheel: Path
    borrowed: list[str]

    def environment(self, name: str) -> Environment:
        """Return a new environment, with pip."""
        folder = self.scratch / f"environment of {name}"
        venv.create(folder, symlinks=True, with_pip=True)
        made = Environment(folder)
        made.borrow(*self.borrowed)
        # By path, since an index could substitute a wheel that is asked for by name.
        made.install(self.wheel)
        return made

    def folder(self, name: str) -> Path:
        """Return where the copy of the project for a job is to be."""
        return self.scratch / f"checkout of {name}" / NAME

    def project(self) -> Path:
        """Return a new project."""
        command = self.environment("new-plugin").python.with_name("physicsnemo")
        subprocess.run([command, "new-plugin", NAME], cwd=self.scratch, check=True)
        return self.scratch / NAME


def jobs(project: Path, newest_only: bool = False) -> Iterator[Job]:
    """Yield the jobs of a project's workflows that run commands, on the Python that runs this.

    Parameters
    ----------
    project
        Its folder.
    newest_only
        Leave out all but the last entry of each axis of a matrix.
    """
    for path in sorted(project.glob(".github/workflows/*.yml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for name, job in content["jobs"].items():
            commands = [step["run"] for step in job["steps"] if "run" in step]
            for chosen in _entries(job, newest_only) if commands else ():
                said = ", ".join([f"{path.stem} {name}", *chosen.values()])
                yield Job(said, [_filled_in(command, chosen) for command in commands])


def _filled_in(command: str, chosen: Mapping[str, str]) -> str:
    return EXPRESSION.sub(lambda found: chosen[found[1]], command)


def _entries(job: Mapping[str, Any], newest_only: bool) -> Iterator[dict[str, str]]:
    matrix = job.get("strategy", {}).get("matrix", {})
    for torch in matrix.get("torch", [None])[-1 if newest_only else 0 :]:
        yield {} if torch is None else {"torch": torch}


def run(job: Job, environment: Environment, folder: Path) -> None:
    """Run the commands of a job in a folder.

    Raises
    ------
    CommandError
        If one fails.
    """
    kept = {key: it for key, it in os.environ.items() if not key.startswith("PYTHON")}
    path = f"{environment.python.parent}{os.pathsep}{kept['PATH']}"
    environ = {**kept, "PATH": path, "GITHUB_REF_NAME": TAG}
    for command in job.commands:
        done = subprocess.run(
            ["bash", "-e", "-c", command], cwd=folder, env=environ, text=True, capture_output=True
        )
        if done.returncode:
            raise CommandError(f"{done.stdout}{done.stderr}\nfailed: {command}")


if __name__ == "__main__":
    sys.exit(main())
