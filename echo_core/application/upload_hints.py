"""Hints of storages that tell by themselves which objects have arrived (``UploadHints``)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import UUID

from echo_core.application.ports import UserUnitsOfWork
from echo_core.domain.ids import VideoId
from echo_core.plugin_api.errors import InvalidRequestError
from echo_core.plugin_api.storage import validate_key

_SOURCE_KEY = re.compile(r"videos/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/source/.+")


@dataclass(frozen=True, slots=True)
class UploadHintTaker:
    """``UploadHints``: a worker looks for the object of that upload at once, and what it finds is all that counts."""

    units_of_work: UserUnitsOfWork

    async def object_stored(self, key: str) -> None:
        """There may be an object of this key now. Any string will do. Raises ``UnavailableError``: say it again."""
        try:
            found = _SOURCE_KEY.fullmatch(validate_key(key))
        except InvalidRequestError:
            return
        if found is not None:
            await self.units_of_work.hint_upload(VideoId(UUID(found[1])), key)
