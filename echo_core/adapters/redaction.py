"""Taking secrets out of texts that others have written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from echo_core.adapters.embedded.services import EMBEDDED
from echo_core.adapters.settings import Settings

MIN_SECRET_CHARS = 8
"""What is shorter would be found everywhere, and is no secret."""
HIDDEN = "[secret]"

# Callers choose some of these texts (paths, names), so the time must grow with their length, not with its square: what
# may begin anywhere is looked for only where a run of its characters begins, and gives nothing back.
_SHAPES = re.compile(
    r"""
    (?P<jwt> (?<![\w-])(?=(?:[\w-]*-)?eyJ[\w-]{5})[\w-]++\.[\w-]++\.[\w-]* )           # RFC 7519, compact
    | (?P<bearer> \bbearer\s+ ) [\w.~+/=-]+                                           # RFC 6750
    | (?P<parameter> [?&](?:[\w-]*(?:token|ticket|signature|secret)|sig|key|api_key|upload_id|code)= ) [^&\s"'<>)\]}]+
    | (?P<login> (?<![a-z0-9+.-])[a-z0-9+.-]++://[^\s/:@]* : ) [^\s/@]+ (?=@)                     # RFC 3986, userinfo
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SECRET_NAME = re.compile(r"secret|token|password|passwd|credential|key", re.IGNORECASE)


class Redactor:
    """Replaces known secrets, and whatever has the shape of one: JSON Web Tokens, bearer tokens, passwords in
    addresses, and the parameters of addresses that carry tokens or signatures."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = sorted({secret for secret in secrets if len(secret) >= MIN_SECRET_CHARS}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str) -> str:
        """The text without them."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        return _SHAPES.sub(_hidden, text)


def _hidden(found: re.Match[str]) -> str:
    return f"{found['bearer'] or found['parameter'] or found['login'] or ''}{HIDDEN}"


def secrets_in(settings: Settings) -> Iterator[str]:
    """Every secret that the configuration holds; of addresses, the password."""
    yield from _secrets_of(settings)
    for plugin in settings.plugins.sections:
        # Which keys are secret is known to the plugin alone; names tell well enough for a log.
        yield from _named_as_secrets(settings.plugins.section(plugin))


def _secrets_of(section: BaseModel) -> Iterator[str]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _secrets_of(value)
        elif isinstance(value, SecretStr):
            secret = value.get_secret_value()
            if secret != EMBEDDED:  # stands for an address
                yield (urlsplit(secret).password or "") if "://" in secret else secret


def _named_as_secrets(table: Mapping[str, object]) -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _named_as_secrets(value)
        elif isinstance(value, str) and _SECRET_NAME.search(name) and not name.endswith("_file"):
            yield value
