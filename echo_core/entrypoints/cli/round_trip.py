"""A tiny clip all the way through an instance, as a browser would send and play it: the second half of the doctor's
examination. It uses nothing but the public contract, and removes its video afterwards."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpx2
from websockets.exceptions import WebSocketException

from echo_core.entrypoints.cli.api import ApiClient, cannot_connect, problem_of
from echo_core.entrypoints.cli.backoff import Backoff
from echo_core.entrypoints.cli.contract import CompletedUpload, Job, UploadSession, VideoDetails
from echo_core.entrypoints.cli.examination import Examination
from echo_core.entrypoints.cli.instance import subject_of
from echo_core.entrypoints.cli.problems import CliError
from echo_core.entrypoints.cli.resumable import Destination, ResumableSender, SessionGoneError
from echo_core.entrypoints.cli.sources import SourceFile, source_file
from echo_core.entrypoints.cli.watching import Watcher, connect

CLIP: Final = Path(__file__).with_name("doctor.mp4")
"""Two seconds of test picture and tone, H.264 and AAC, made for this purpose (CC0)."""
HOPS: Final = ("token", "api", "websocket", "upload-url", "preflight", "upload", "processing", "playlist", "segment")
NEEDED_HEADERS: Final = ("content-range", "content-type")
WS_ANSWER_S: Final = 10.0
_BYTE_RANGE = re.compile(r"^#EXT-X-BYTERANGE:(\d+)@(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Part:
    """A byte range of an address, as a playlist names it; no length: all of it."""

    url: str
    start: int = 0
    length: int | None = None


class _QuietView:
    """A watched job that nobody watches."""

    def job(self, job: Job, *, live: bool) -> None:
        """See ``WatchView``."""

    def note(self, text: str) -> None:
        """See ``WatchView``."""


class RoundTrip:
    """One clip through one instance. ``origins`` are those that browsers will send."""

    def __init__(
        self,
        examination: Examination,
        api: ApiClient,
        client: httpx2.AsyncClient,
        *,
        origins: Sequence[str],
        timeout_s: float,
        clip: Path = CLIP,
    ) -> None:
        self._examination = examination
        self._api = api
        self._http = client
        self._origins = origins
        self._timeout_s = timeout_s
        self._clip = clip
        self._session: UploadSession | None = None
        self._job_id = ""
        self._playback_url = ""
        self._part = Part("")

    async def run(self) -> None:
        """Make all hops; after the first failure the rest is skipped. Raises nothing that a hop can tell."""
        makers = dict(
            zip(
                HOPS,
                (
                    self._token,
                    self._reach,
                    self._websocket,
                    self._begin,
                    self._preflight,
                    self._upload,
                    self._process,
                    self._playlist,
                    self._segment,
                ),
                strict=True,
            )
        )
        try:
            for index, (name, make) in enumerate(makers.items()):
                if not await self._examination.hop(name, make) and name != "websocket":
                    self._examination.skip(*HOPS[index + 1 :], because=f"{name} failed")
                    return
        finally:
            if self._session is not None:
                await self._examination.hop("clean-up", self._clean_up)

    async def _token(self) -> str:
        return f"for user {subject_of(await self._api.tokens.current())}"

    async def _reach(self) -> str:
        ready = await self._fetch("GET", f"{self._api.url}/readyz", {})
        if not ready.is_success:
            raise problem_of(ready)
        await self._api.send("GET", "/videos", params={"limit": "1"})
        return self._api.url

    async def _websocket(self) -> str:
        token = await self._api.tokens.current()
        try:
            async with asyncio.timeout(WS_ANSWER_S), connect(self._api.url, subject_of(token)) as socket:
                await socket.send(json.dumps({"type": "auth", "token": token}))
                answer = json.loads(await socket.recv())
        except (OSError, TimeoutError, ValueError, WebSocketException) as error:
            raise _no_live_updates(str(error) or type(error).__name__) from error
        if not isinstance(answer, dict) or answer.get("type") != "ready":
            raise _no_live_updates("the server answered something else than ready")
        return "live updates get through"

    async def _begin(self) -> str:
        source = source_file(self._clip)
        self._session = await self._api.call(
            UploadSession,
            "POST",
            "/videos/signed-upload-url",
            body={
                "filename": "echo-doctor.mp4",
                "contentType": source.content_type,
                "sizeBytes": source.size_bytes,
            },
            idempotency_key=uuid.uuid4().hex,
            headers={"Origin": self._origins[0]} if self._origins else None,
        )
        return origin_of(self._upload_url)

    @property
    def _begun(self) -> UploadSession:
        if self._session is None:
            raise CliError("No upload was begun.", code="unexpected_answer")
        return self._session

    @property
    def _upload_url(self) -> str:
        return self._api.absolute(self._begun.upload_url or "")

    async def _preflight(self) -> str:
        """Ask as browsers do before a PUT from another origin (Fetch standard, CORS-preflight request)."""
        checked = []
        for origin in self._origins:
            if origin_of(self._upload_url) == origin:
                continue
            answer = await self._fetch(
                "OPTIONS",
                self._upload_url,
                {
                    "Origin": origin,
                    "Access-Control-Request-Method": "PUT",
                    "Access-Control-Request-Headers": ",".join(NEEDED_HEADERS),
                },
            )
            missing = missing_permissions(answer.headers, origin)
            if missing:
                raise CliError(
                    f"Browsers at {origin} may not upload to {origin_of(self._upload_url)}: {', '.join(missing)}.",
                    code="cors_missing",
                    remedy="Add the origin to http.cors_origins; for a bucket, to its CORS configuration, with PUT and "
                    "the headers Content-Range, Content-Type and (exposed) Range.",
                )
            checked.append(origin)
        if self._page is not None:
            await self._check_answers(self._page)
        return f"allowed: {', '.join(checked)}" if checked else "same origin as the web application, none needed"

    @property
    def _page(self) -> str | None:
        """The origin of the page that uploads, if that is not the storage's own."""
        page = self._origins[0] if self._origins else None
        return None if page == origin_of(self._upload_url) else page

    async def _check_answers(self, page: str) -> None:
        """A preflight lets a page send; what it may read is in the answers themselves (Fetch standard, CORS check)."""
        answer = await self._fetch(
            "PUT", self._upload_url, {"Origin": page, "Content-Range": f"bytes */{self._clip.stat().st_size}"}
        )
        missing = missing_answers(answer.headers, page)
        if missing:
            raise CliError(
                f"Pages of {page} cannot read how far an upload to {origin_of(self._upload_url)} is: "
                f"{', '.join(missing)}.",
                code="cors_missing",
                remedy="Expose the header Range to the origin; for a bucket, list it in responseHeader of its CORS "
                "configuration.",
            )

    async def _upload(self) -> str:
        session = self._begun
        source = source_file(self._clip)
        if session.upload is None:
            raise CliError("The server did not say how to upload.", code="unexpected_answer")
        headers = {**session.upload.headers, **({"Origin": self._page} if self._page else {})}
        destination = Destination(
            url=self._upload_url, headers=headers, chunk_size_bytes=session.upload.chunk_size_bytes
        )
        sender = ResumableSender(
            self._http, source, destination, backoff=Backoff(max_tries=3), on_sent=lambda offset: None
        )
        try:
            await sender.send(fresh=True)
        except SessionGoneError as error:
            raise error.problem from error
        completed = await self._complete(session, source)
        self._job_id = completed.job_id
        return f"{source.size_bytes} bytes"

    async def _complete(self, session: UploadSession, source: SourceFile) -> CompletedUpload:
        return await self._api.call(
            CompletedUpload,
            "POST",
            "/videos/upload-complete",
            body={
                "videoId": session.video_id,
                "originalFilename": "echo-doctor.mp4",
                "storagePath": session.storage_path,
                "contentType": source.content_type,
                "sizeBytes": source.size_bytes,
            },
            idempotency_key=uuid.uuid4().hex,
        )

    async def _process(self) -> str:
        from echo_core.entrypoints.cli.commands.upload import failure_of

        try:
            async with asyncio.timeout(self._timeout_s):
                job = await Watcher(self._api, self._job_id, _QuietView()).run()
        except TimeoutError as error:
            raise CliError(
                f"The clip was not processed within {self._timeout_s:g} s.",
                code="processing_timeout",
                remedy="Check that a worker runs ('echoctl up' or 'echoctl worker') and what it says; if it is only "
                "busy, give --timeout more.",
            ) from error
        if job.state != "succeeded":
            raise failure_of(job)
        return f"{sum(step.state == 'succeeded' for step in job.steps)} steps"

    async def _playlist(self) -> str:
        details = await self._api.call(VideoDetails, "GET", f"/videos/{self._begun.video_id}/details")
        if not details.playback_url:
            raise CliError(
                "The video is processed and has no address to play it.",
                code="not_playable",
                remedy="Look at its renditions with 'echoctl jobs show'.",
            )
        master_url = self._api.absolute(details.playback_url)
        media_url = first_address(await self._text(master_url), master_url)
        self._part = first_part(await self._text(media_url), media_url)
        return origin_of(master_url)

    async def _text(self, url: str) -> str:
        answer = await self._fetch("GET", url, {})
        if not answer.is_success:
            raise problem_of(answer)
        return str(answer.text)

    async def _segment(self) -> str:
        part = self._part
        end = part.start + (part.length or 1024) - 1
        page = self._origins[0] if self._origins and self._origins[0] != origin_of(part.url) else None
        wanted = {"Range": f"bytes={part.start}-{end}", **({"Origin": page} if page else {})}
        answer = await self._fetch("GET", part.url, wanted)
        if not answer.is_success:
            raise problem_of(answer)
        if page and not _lets_in(answer.headers, page):
            raise CliError(
                f"Pages of {page} may not read from {origin_of(part.url)}.",
                code="cors_missing",
                remedy="Let the origin read there (GET, header Range); for a bucket, by its CORS configuration.",
            )
        if answer.status_code != 206 or (part.length is not None and len(answer.content) != part.length):
            raise CliError(
                f"{origin_of(part.url)} does not answer range requests: {answer.status_code}, "
                f"{len(answer.content)} bytes instead of {part.length}.",
                code="range_ignored",
                remedy="Let the proxy or cache in front of it pass the Range header on.",
            )
        return f"{len(answer.content)} bytes of {origin_of(part.url)}"

    async def _fetch(self, method: str, url: str, headers: dict[str, str]) -> httpx2.Response:
        try:
            return await self._http.request(method, url, headers=headers, follow_redirects=method == "GET")
        except httpx2.TransportError as error:
            raise cannot_connect(url, error) from error

    async def _clean_up(self) -> str:
        await self._api.send("DELETE", f"/videos/{self._begun.video_id}")
        return "the clip is deleted"


def _no_live_updates(why: str) -> CliError:
    return CliError(
        f"Live updates do not get through: {why}.",
        code="websocket_failed",
        remedy="Let the proxy in front of Echo pass WebSockets on (Upgrade, Connection) for /ws/.",
    )


def origin_of(url: str) -> str:
    """Scheme, host and port: all of an address that is no secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def missing_permissions(headers: httpx2.Headers, origin: str) -> list[str]:
    """What a preflight's answer lacks for a PUT with our headers from ``origin``, in words."""
    missing = []
    if not _lets_in(headers, origin):
        missing.append("Access-Control-Allow-Origin does not name it")
    if "PUT" not in _listed(headers, "access-control-allow-methods", str.upper):
        missing.append("Access-Control-Allow-Methods lacks PUT")
    allowed = _listed(headers, "access-control-allow-headers", str.lower)
    lacking = [name for name in NEEDED_HEADERS if name not in allowed and "*" not in allowed]
    if lacking:
        missing.append(f"Access-Control-Allow-Headers lacks {', '.join(lacking)}")
    return missing


def missing_answers(headers: httpx2.Headers, origin: str) -> list[str]:
    """What an answer to our PUT lacks for a page of ``origin`` to go on with an upload, in words."""
    if not _lets_in(headers, origin):
        return ["Access-Control-Allow-Origin does not name it"]
    if not {"range", "*"} & _listed(headers, "access-control-expose-headers", str.lower):
        return ["Access-Control-Expose-Headers lacks Range"]
    return []


def _lets_in(headers: httpx2.Headers, origin: str) -> bool:
    return headers.get("access-control-allow-origin") in {"*", origin}


def _listed(headers: httpx2.Headers, name: str, fold: Callable[[str], str]) -> set[str]:
    return {fold(value.strip()) for value in headers.get(name, "").split(",")}


def first_address(playlist: str, base: str) -> str:
    """The first address in a playlist (RFC 8216, 4.1). Raises ``CliError`` (``playlist_empty``)."""
    lines = (line.strip() for line in playlist.splitlines())
    address = next((line for line in lines if line and not line.startswith("#")), None)
    if address is None or not playlist.lstrip().startswith("#EXTM3U"):
        raise CliError(
            "The playlist is empty.", code="playlist_empty", remedy="Run the job again: 'echoctl jobs retry'."
        )
    return urljoin(base, address)


def first_part(playlist: str, base: str) -> Part:
    """The first segment, by its byte range where it has one (RFC 8216, 4.3.2.2)."""
    url = first_address(playlist, base)
    span = _BYTE_RANGE.search(playlist)
    return Part(url, int(span[2]), int(span[1])) if span else Part(url)
