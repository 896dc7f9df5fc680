"""What a plugin gets when one of its specs is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import BaseModel

ConfigT = TypeVar("ConfigT", bound=BaseModel)


class Clock(Protocol):
    """The time, injected so that tests can move it."""

    def now(self) -> datetime:
        """The present moment: aware, UTC."""


@dataclass(frozen=True, kw_only=True)
class PluginContext:
    """The surroundings of one opened spec.

    ``data_dir`` exists and belongs to the whole instance: a plugin keeps to paths that its configuration names below
    it. ``routes_url`` is the absolute public base of the routes that this plugin registers (no trailing slash).
    ``derive_key(label)`` gives 32 bytes that are stable for this instance, this plugin and this label, for signing.
    """

    plugin: str
    config: BaseModel
    data_dir: Path
    routes_url: str
    clock: Clock
    derive_key: Callable[[str], bytes]
    page_origins: tuple[str, ...] = ()
    """Origins of the pages that read and write objects from browsers: Echo's own, then ``http.cors_origins``, which may
    be ``*``."""

    def config_as(self, model: type[ConfigT]) -> ConfigT:
        """The validated configuration as the model that the spec named. Raises ``TypeError`` for any other model."""
        if not isinstance(self.config, model):
            raise TypeError(f"configuration of {self.plugin!r} is a {type(self.config).__name__}, not {model.__name__}")
        return self.config
