"""The command line as a whole: built-in commands, those of plugins, and how failures end the process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from echo_core.entrypoints.cli.commands import doctor, inspecting, jobs, search, storage, upload, users, videos
from echo_core.entrypoints.cli.commands import instance as instance_commands
from echo_core.entrypoints.cli.exits import ExitCode
from echo_core.entrypoints.cli.instance import CONFIG_KEY
from echo_core.entrypoints.cli.output import JSON_KEY, say, say_problem, write_json
from echo_core.entrypoints.cli.problems import CliError, explained

if TYPE_CHECKING:
    from typer._click.core import Command, Context

EPILOG = (
    "Plugins add commands of their own: [bold]echoctl plugins[/bold] lists them, "
    "[bold]echoctl PLUGIN --help[/bold] explains them.\n\n"
    "Exit codes: 0 done, 1 failed, 2 usage, 3 cannot connect, 4 processing failed, 5 already running, 130 interrupted."
)


class EchoGroup(TyperGroup):
    """The root. It tells expected failures without a traceback, and finds the commands of plugins only when asked for
    one: a broken plugin can neither break nor slow down anything else."""

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """A built-in command, else a plugin's of that name."""
        return super().get_command(ctx, cmd_name) or (None if cmd_name.startswith("-") else _of_plugin(ctx, cmd_name))

    def invoke(self, ctx: Context) -> Any:
        """Run, and turn every expected failure into a message and an exit code."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say("Interrupted.")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except BrokenPipeError:
            # Whoever reads our output has seen enough; closing it at exit must not complain either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(ExitCode.FAILED) from None
        except Exception as error:
            problem = explained(error)
            if problem is None:
                raise
            _tell(problem, as_json=bool(ctx.meta.get(JSON_KEY)))
            raise typer.Exit(problem.exit_code) from None


def _tell(problem: CliError, *, as_json: bool) -> None:
    say_problem(problem)
    if as_json:
        write_json({"error": problem.as_json()})


def _of_plugin(ctx: Context, name: str) -> Command | None:
    try:
        from echo_core import bootstrap

        # A command is looked for before the callback of the root, which keeps the option, has run.
        settings = bootstrap.load_settings(ctx.find_root().params.get("config"))
        if (found := bootstrap.plugin_commands(settings, name)) is None:
            return None
        commands, ctx.obj = found
        return typer.main.get_command(commands)
    except Exception as error:  # a plugin may raise anything; the user mistyped, or learns why it is missing
        problem = explained(error)
        if problem is not None and problem.code == "plugin_not_configured":
            raise  # there are such commands: they say themselves what they lack
        say(f"The commands of plugins cannot be had: {problem.message if problem else error!r}")
        return None


app = typer.Typer(
    name="echoctl",
    cls=EchoGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)


def _show_version(value: bool) -> None:
    if value:
        from echo_core import __version__

        typer.echo(f"echoctl {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="Configuration file. Default: ECHO_CONFIG, ./echo.toml."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Echo takes a video from your disk to every place it should be seen.

    Start with [bold]echoctl up[/bold], then [bold]echoctl upload FILE --watch[/bold].
    """
    if config is not None:
        context.find_root().meta[CONFIG_KEY] = config


for commands in (instance_commands, upload, videos, search, jobs, doctor, storage, inspecting, users):
    commands.register(app)
