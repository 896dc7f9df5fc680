"""``python -m echo_core.entrypoints.cli`` is ``echoctl``, also where no script was installed."""

from echo_core.entrypoints.cli import main

main()
