"""``echoctl``: starts and looks after an instance, and uploads to any instance over its public contract.

Importing this package must stay cheap, because every ``--help`` and every shell completion pays for it: whatever costs
more than typer itself is imported inside the commands that need it.
"""

from __future__ import annotations


def main() -> None:
    """Run ``echoctl`` with the process's arguments. Ends the process with one of ``exits.ExitCode``."""
    from echo_core.entrypoints.cli.app import app

    app(prog_name="echoctl")
