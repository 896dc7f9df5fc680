"""A client of the public HTTP contract: retries what may be sent again, and turns refusals into ``ApiError``."""

from __future__ import annotations

import http
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import httpx2
import msgspec

from echo_core import __version__
from echo_core.entrypoints.cli.backoff import Backoff, parsed_retry_after
from echo_core.entrypoints.cli.exits import ExitCode
from echo_core.entrypoints.cli.instance import Target, is_loopback
from echo_core.entrypoints.cli.problems import ApiError, CliError

CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 60.0
RETRIED_STATUSES = frozenset({408, 429, 502, 503, 504})
RETRIED_CODES = frozenset({"idempotency_in_progress"})
API = "/api/v1"
USER_AGENT = f"echoctl/{__version__}"

Answer = TypeVar("Answer")


@asynccontextmanager
async def open_http(url: str) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client for ``url``'s server. Proxies of the environment are left out for this machine's own addresses."""
    timeout = httpx2.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    trust_env = not is_loopback(urlsplit(url).hostname or "")
    async with httpx2.AsyncClient(timeout=timeout, trust_env=trust_env, headers={"User-Agent": USER_AGENT}) as client:
        yield client


class ApiClient:
    """Calls in one user's name. Safe for one task at a time."""

    def __init__(self, target: Target, client: httpx2.AsyncClient, *, backoff: Backoff | None = None) -> None:
        self.url = target.url
        self.tokens = target.tokens
        self.http = client
        self.backoff = backoff or Backoff(max_tries=6)
        self._was_reachable = False

    async def call(
        self,
        answer: type[Answer],
        method: str,
        path: str,
        *,
        body: Mapping[str, object] | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        backoff: Backoff | None = None,
    ) -> Answer:
        """Send a request and read its answer; ``backoff``: more patience than usual. Raises ``ApiError``, ``CliError``
        (``cannot_connect``)."""
        extra = {**(headers or {}), **({"Idempotency-Key": idempotency_key} if idempotency_key else {})}
        response = await self.send(method, path, body=body, headers=extra, params=params, backoff=backoff)
        return read_answer(answer, response)

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        backoff: Backoff | None = None,
    ) -> httpx2.Response:
        """Send until there is an answer that will not change by itself. Raises like ``call``.

        A POST without Idempotency-Key is sent once.
        """
        backoff = backoff or self.backoff
        may_repeat = method != "POST" or "Idempotency-Key" in (headers or {})
        failures = 0
        renewed = False
        while True:
            try:
                response = await self._send_once(method, path, body, headers or {}, params or {})
            except httpx2.TransportError as error:
                failures += 1
                if not may_repeat or not self._was_reachable or backoff.exhausted(failures):
                    raise cannot_connect(self.url, error) from error
                await backoff.wait(failures)
                continue
            self._was_reachable = True
            if response.is_success:
                return response
            problem = problem_of(response)
            if response.status_code == http.HTTPStatus.UNAUTHORIZED and not renewed:
                renewed = True
                if await self.tokens.renew():
                    continue
            transient = response.status_code in RETRIED_STATUSES or problem.code in RETRIED_CODES
            failures += 1
            if not transient or not may_repeat or backoff.exhausted(failures):
                raise problem
            await backoff.wait(failures, parsed_retry_after(response.headers.get("Retry-After")))

    async def _send_once(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        headers: Mapping[str, str],
        params: Mapping[str, str],
    ) -> httpx2.Response:
        sent = {"Authorization": f"Bearer {await self.tokens.current()}", "Accept": "application/json", **headers}
        try:
            return await self.http.request(
                method, f"{self.url}{API}{path}", json=body, headers=sent, params=dict(params)
            )
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError) as error:
            raise CliError(
                f"{self.url!r} is not the address of an instance.", code="invalid_url", exit_code=ExitCode.USAGE
            ) from error

    def absolute(self, url: str) -> str:
        """An address from an answer, which may be relative to the server."""
        return urljoin(f"{self.url}/", url)


def read_answer(answer: type[Answer], response: httpx2.Response) -> Answer:
    """The body as the type that the contract says. Raises ``CliError`` (``unexpected_answer``)."""
    try:
        return msgspec.json.decode(response.content, type=answer)
    except msgspec.MsgspecError as error:
        raise CliError(
            f"{response.request.url.host} answered something that this echoctl does not understand: {error}",
            code="unexpected_answer",
            remedy="Check that the address is that of an Echo instance, and that echoctl is not older than it.",
        ) from error


def problem_of(response: httpx2.Response) -> ApiError:
    """The refusal that a response tells: its problem document (RFC 9457), else its status."""
    status = response.status_code
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = "unknown status"
    try:
        document = msgspec.json.decode(response.content, type=dict[str, object])
    except msgspec.MsgspecError:
        document = {}
    detail = document.get("detail") or document.get("title")
    return ApiError(
        status,
        str(detail or f"{response.request.url.host} answered {status} ({phrase})."),
        code=str(document.get("code") or f"http_{status}"),
        remedy=str(document.get("remedy") or _remedy(status)),
        request_id=str(document.get("requestId") or ""),
        pointers=_pointers(document.get("errors")),
    )


def _pointers(errors: object) -> tuple[str, ...]:
    told = errors if isinstance(errors, list) else []
    return tuple(str(error["pointer"]) for error in told if isinstance(error, dict) and "pointer" in error)


def _remedy(status: int) -> str:
    if status in {401, 403}:
        return "Check the token: it may have expired, or belong to another instance."
    if status == http.HTTPStatus.NOT_FOUND:
        return "Check the id and the address of the instance."
    return "Try again in a moment." if status in RETRIED_STATUSES or status >= 500 else ""


def cannot_connect(url: str, error: Exception) -> CliError:
    """The failure to reach a server at all; secrets in its address are not shown."""
    parts = urlsplit(url)
    where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    certificate = isinstance(error.__cause__, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY" in str(error)
    if certificate:
        remedy = "The server's certificate is not trusted; install one that is, or its authority (SSL_CERT_FILE)."
    elif is_loopback(parts.hostname or ""):
        remedy = "Start the instance with 'echoctl up', or name another with --url."
    else:
        remedy = "Check the address and the network; 'echoctl doctor' on the server tells what is wrong there."
    reason = str(error) or type(error).__name__
    return CliError(
        f"{where} cannot be reached: {reason}.".replace("..", "."),
        code="cannot_connect",
        remedy=remedy,
        exit_code=ExitCode.UNREACHABLE,
    )
