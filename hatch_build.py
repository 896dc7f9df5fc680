"""Packs the built web application into the wheel, where there is one: a build of the kernel alone stays possible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WebBuildHook(BuildHookInterface):
    """``web/dist`` becomes ``echo_core/_web``. Hatch's own ``force-include`` refuses to build without the folder."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before each build; an editable one finds the folder of the checkout itself."""
        build = Path(self.root, "web", "dist")
        if version != "editable" and (build / "index.html").is_file():
            build_data["force_include"][str(build)] = "echo_core/_web"
