"""Where the built web application lies, if there is one."""

from __future__ import annotations

from pathlib import Path

import echo_core
from echo_core.adapters.settings import Settings
from echo_core.adapters.settings_errors import ConfigurationError, ConfigurationIssue

INDEX = "index.html"
"""Without it a folder is no build of the application."""


def find_web_build(settings: Settings) -> Path | None:
    """The folder that ``web.dir`` names, else the one that comes with Echo; None: there is none, and no pages.

    Raises ``ConfigurationError`` when the named folder holds no build.
    """
    if settings.web.dir:
        named = Path(settings.web.dir)
        if not (named / INDEX).is_file():
            problem = f"there is no {INDEX} in this folder; build the web application, or leave the key empty"
            raise ConfigurationError([ConfigurationIssue("web.dir", problem, settings.origins.describe("web.dir"))])
        return named
    package = Path(echo_core.__file__).parent
    # Packed into the wheel, or beside the package in a checkout.
    return next((d for d in (package / "_web", package.parent / "web" / "dist") if (d / INDEX).is_file()), None)
