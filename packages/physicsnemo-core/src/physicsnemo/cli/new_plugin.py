# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo new-plugin``: the project of a package that brings models of its own."""

import builtins
import keyword
import os
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import click

import physicsnemo
from physicsnemo.core.install.entry_points import shipped_models
from physicsnemo.registry import ModelRegistry

__all__ = ["new_plugin"]

# What the project's files call other things.
_TAKEN = {
    "Any",
    "CASES",
    "Callable",
    "Case",
    "MetaData",
    "ModelMetaData",
    "ModelRegistry",
    "Module",
    "Path",
    "Tensor",
}
_LICENSES = ("Apache-2.0", "BSD-3-Clause", "MIT")
_NEXT_STEPS = """\
{project} is a package that registers the model {model}. Next:

    cd {project}
    pip install -e '.[test]'
    pytest

Then follow its README.md.
"""


@click.command("new-plugin")
@click.argument("name")
@click.option(
    "--model",
    metavar="CLASS",
    help="Name of the model's class; by default made of NAME, as WeatherLab is of weather-lab.",
)
@click.option(
    "--license",
    "spdx",
    type=click.Choice(_LICENSES),
    default=_LICENSES[0],
    show_default=True,
    help="Licence of the package, by its SPDX name; the project says how to take another one.",
)
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="Where to make the project's folder; by default here.",
)
def new_plugin(name: str, model: str | None, spdx: str, directory: Path) -> None:
    """Start a package of your own that brings a model.

    Makes the folder NAME with a small model that works, its tests, all that pip needs to install
    it, and workflows that test and publish it. NAME is what pip will call the package, such as
    weather-lab.
    """
    package = _package(name)
    model = _model(model or _in_capitals(name))
    project = directory / name
    if os.path.lexists(project):
        raise click.ClickException(
            f"{project} exists, and is left as it is; remove it, or choose another name"
        )
    values = {
        "name": name,
        "package": package,
        "model": model,
        "license": spdx,
        "core_range": _core_range(),
    }
    try:
        _create(project, values)
    except OSError as error:
        raise click.ClickException(f"{project} cannot be made: {error}") from error
    click.echo(_NEXT_STEPS.format(project=project, model=model), nl=False)


def _package(name: str) -> str:
    """Return what Python calls a distribution's package."""

    def refuse(reason: str) -> click.BadParameter:
        return click.BadParameter(f"{name!r} {reason}", param_hint="'NAME'")

    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name):  # PEP 508
        raise refuse("is no name for pip: use letters and digits, with '-', '_' or '.' between")
    package = re.sub(r"[-_.]+", "_", name).lower()
    if not package.isidentifier() or keyword.iskeyword(package):
        raise refuse(f"makes {package!r}, which Python cannot import; use a name like weather-lab")
    if package == "tests":
        raise refuse("is what the project's folder of tests is called; use another name")
    if package.partition("_")[0] == "physicsnemo":
        raise refuse(
            "would look like a part of PhysicsNeMo Models, whose packages begin with "
            "'physicsnemo'; use a name of your own, like weather-lab"
        )
    if found := find_spec(package):
        where = found.origin or next(iter(found.submodule_search_locations or ()), "Python itself")
        raise refuse(f"would hide the package {package!r} of {where}; use another name")
    return package


def _model(name: str) -> str:
    """Return a class name if the project can use it."""

    def refuse(reason: str) -> click.BadParameter:
        return click.BadParameter(f"{name!r} {reason}", param_hint="'--model'")

    if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name):
        raise refuse("is no name for a class: use letters and digits, as in WeatherLab")
    if name in _TAKEN or hasattr(builtins, name):
        raise refuse("stands for something else in the project's files; use another one")
    if name in {*ModelRegistry().list_models(), *shipped_models()}:
        raise refuse("is a model of another package, and the registry goes by name; use another")
    return name


def _in_capitals(name: str) -> str:
    """Return ``WeatherLab`` for ``weather-lab``."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[-_.]+", name))


def _core_range() -> str:
    """Return the versions of core that share a minor version with the one that runs."""
    major, minor = re.findall(r"\d+", physicsnemo.__version__)[:2]
    return f">={major}.{minor},<{major}.{int(minor) + 1}"


def _create(project: Path, values: Mapping[str, str]) -> None:
    """Write the files next to the project's folder, and move them there when all are complete."""
    with TemporaryDirectory(prefix=".new-plugin-", dir=project.parent) as scratch:
        draft = Path(scratch) / project.name
        for path, text in _rendered(values):
            file = draft / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        draft.rename(project)


def _rendered(values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each file."""
    import jinja2

    # One file for each of the project's; their names are templates, too.
    texts = dict(_texts(files("physicsnemo.cli").joinpath("template")))
    texts["LICENSE.jinja"] = _license(values["license"])
    templates = jinja2.Environment(
        loader=jinja2.DictLoader(texts),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    for name in templates.list_templates():
        path = templates.from_string(name.removesuffix(".jinja")).render(values)
        yield path, templates.get_template(name).render(values)


def _license(spdx: str) -> str:
    return files("physicsnemo.cli").joinpath("licenses", f"{spdx}.txt").read_text(encoding="utf-8")


def _texts(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path below a folder, and the text, of each file in it."""
    for item in folder.iterdir():
        if item.is_dir():
            yield from _texts(item, f"{prefix}{item.name}/")
        else:
            yield prefix + item.name, item.read_text(encoding="utf-8")
