# SPDX-License-Identifier: Apache-2.0
"""The command line as a whole: help, start-up, and the commands of plugins."""

import subprocess
import sys

import pytest

HEADER = "import click\nfrom physicsnemo import hookimpl\n"
COMMAND = """
@hookimpl
def cli_command():
    @click.command("{name}")
    @click.argument("whom")
    def command(whom):
        \"\"\"Greet somebody.\"\"\"
        click.echo(f"Hello, {{whom}}")
    return command
"""
BUILT_IN = [
    "check",
    "env",
    "export",
    "info",
    "merge",
    "migrate",
    "models",
    "new-plugin",
    "show",
    "verify",
]


def provide(install, name, code):
    """Install a distribution with one plugin."""
    module = name.replace("-", "_")
    entry = f"[physicsnemo.plugins]\nlab = {module}\n"
    install(name, entry, **{module: HEADER + code})


def listed(output):
    """Return the names of commands in a help text."""
    return [line.split()[0] for line in output.partition("Commands:\n")[2].splitlines()]


def interpret(*arguments):
    """Run the command in a fresh interpreter, which then prints what it has loaded."""
    code = (
        "import sys\nfrom physicsnemo.cli import main\n"
        "main(sys.argv[1:], standalone_mode=False)\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout, set(result.stderr.split())


@pytest.mark.parametrize("arguments", [["--help"], ["models"], ["info", "--help"], ["--version"]])
def test_start_is_light(arguments):
    output, loaded = interpret(*arguments)
    assert output
    assert "physicsnemo.cli" in loaded
    assert "torch" not in loaded


def test_library_does_not_need_the_command():
    code = (
        "import sys, physicsnemo, physicsnemo.registry, physicsnemo.hooks\n"
        "physicsnemo.registry.ModelRegistry().list_models()\n"
        "assert not {'click', 'rich', 'torch'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_distribution_installs_the_command():
    import importlib_metadata

    from physicsnemo.cli import main

    (script,) = importlib_metadata.entry_points(group="console_scripts", name="physicsnemo")
    assert script.load() is main


def test_the_package_is_the_command():
    run = [sys.executable, "-m", "physicsnemo", "--version"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("physicsnemo-core ")


def test_help(physicsnemo):
    result = physicsnemo("--help")
    assert result.exit_code == 0
    assert set(listed(result.output)) >= set(BUILT_IN)


def test_version(physicsnemo):
    import importlib_metadata

    version = importlib_metadata.version("physicsnemo-core")
    assert physicsnemo("--version").output == f"physicsnemo-core {version}\n"


def test_command_of_a_plugin(install, physicsnemo):
    provide(install, "greet-lab", COMMAND.format(name="greet"))
    assert "greet" in listed(physicsnemo("--help").output)
    result = physicsnemo("greet", "Ada")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Hello, Ada\n", "")


def test_plugins_are_not_loaded_for_built_in_commands(install, physicsnemo):
    provide(install, "slow-lab", COMMAND.format(name="slow"))
    assert physicsnemo("models").exit_code == 0
    assert "slow_lab" not in sys.modules


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        (
            "raising-lab",
            "@hookimpl\ndef cli_command():\n    raise RuntimeError('no\\nluck')\n",
            "its hook cli_command failed: RuntimeError: no luck",
        ),
        (
            "text-lab",
            "@hookimpl\ndef cli_command():\n    return 'greet'\n",
            "cli_command must return a named click.Command, got 'greet'",
        ),
        (
            "nameless-lab",
            "@hookimpl\ndef cli_command():\n    return click.Command(None)\n",
            "cli_command must return a named click.Command, got <Command None>",
        ),
        (
            "misspelt-lab",
            "@hookimpl\ndef cli_commands():\n    pass\n",
            "does not fit: unknown hook 'cli_commands'",
        ),
        (
            "broken-lab",
            "raise RuntimeError('half installed')",
            "is left out, it cannot be loaded: RuntimeError: half installed",
        ),
        (
            "grabbing-lab",
            COMMAND.format(name="models"),
            "its command 'models' is left out, since there is one",
        ),
    ],
)
@pytest.mark.filterwarnings("default")
def test_failing_plugin_is_named_and_the_others_work(install, physicsnemo, name, code, reason):
    provide(install, name, code)
    provide(install, f"sound-{name}", COMMAND.format(name="greet"))
    result = physicsnemo("greet", "Ada")
    assert (result.exit_code, result.stdout) == (0, "Hello, Ada\n")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Warning: the plugin 'lab' of {name} 1.0")
    assert reason in line
    assert set(listed(physicsnemo("--help").stdout)) == {*BUILT_IN, "greet"}


def test_plugin_cannot_replace_a_built_in_command(install, physicsnemo):
    provide(install, "taking-lab", COMMAND.format(name="models"))
    result = physicsnemo("models", "Ada", "Grace")
    assert result.exit_code == 2
    assert "Hello" not in result.output


def test_two_plugins_with_one_command(install, physicsnemo):
    for name in ("first-lab", "second-lab"):
        provide(install, name, COMMAND.format(name="greet"))
    result = physicsnemo("greet", "Ada")
    assert result.stdout == "Hello, Ada\n"
    assert "its command 'greet' is left out, since there is one" in result.stderr


def test_unknown_command(physicsnemo):
    result = physicsnemo("modles")
    assert result.exit_code == 2
    assert "No such command 'modles'" in result.stderr
