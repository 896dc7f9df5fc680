"""Hook specifications. A hook is synchronous, does no input or output, and runs once at start; it returns specs."""

from __future__ import annotations

from collections.abc import Sequence

import pluggy

from echo_core.plugin_api.specs import (
    AIProviderSpec,
    CommandsSpec,
    EventHandlerSpec,
    IdentitySpec,
    RoutesSpec,
    StepSpec,
    StorageSpec,
    TranscoderSpec,
)

PROJECT = "echo"
ENTRY_POINT_GROUP = "echo.plugins"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class EchoHooks:
    """All hooks that a plugin may implement, as module-level functions marked with ``hookimpl``."""

    @hookspec
    def echo_register_storage(self) -> Sequence[StorageSpec]:
        """Storage backends."""
        raise NotImplementedError

    @hookspec
    def echo_register_transcoders(self) -> Sequence[TranscoderSpec]:
        """Transcoders."""
        raise NotImplementedError

    @hookspec
    def echo_register_ai_providers(self) -> Sequence[AIProviderSpec]:
        """AI providers."""
        raise NotImplementedError

    @hookspec
    def echo_register_identity(self) -> Sequence[IdentitySpec]:
        """Identities: users, sign-in and tokens."""
        raise NotImplementedError

    @hookspec
    def echo_register_steps(self) -> Sequence[StepSpec]:
        """Extra pipeline steps."""
        raise NotImplementedError

    @hookspec
    def echo_register_event_handlers(self) -> Sequence[EventHandlerSpec]:
        """Handlers of committed events."""
        raise NotImplementedError

    @hookspec
    def echo_register_routes(self) -> Sequence[RoutesSpec]:
        """HTTP routes of the plugin's own."""
        raise NotImplementedError

    @hookspec
    def echo_register_commands(self) -> Sequence[CommandsSpec]:
        """Commands for ``echoctl``."""
        raise NotImplementedError
