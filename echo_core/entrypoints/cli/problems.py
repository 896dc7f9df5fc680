"""Expected failures: what went wrong in a sentence, what to do about it, and with which code the process ends."""

from __future__ import annotations

from http import HTTPStatus

from echo_core.entrypoints.cli.exits import ExitCode

USAGE_CODES = frozenset({"unknown_storage"})
UNREACHABLE_CODES = frozenset({"instance_not_running", "cannot_connect", "provider_unavailable", "unavailable"})
ALREADY_RUNNING_CODES = frozenset({"already_running", "already_uploading"})


class CliError(Exception):
    """A failure that ``echoctl`` explains instead of showing a traceback."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        remedy: str = "",
        exit_code: ExitCode = ExitCode.FAILED,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.remedy = remedy
        self.exit_code = exit_code
        self.request_id = request_id

    def as_json(self) -> dict[str, str]:
        """The documented form: ``code``, ``message``, ``remedy``, and ``requestId`` where a server gave one."""
        shown = {"code": self.code, "message": self.message, "remedy": self.remedy}
        return {**shown, "requestId": self.request_id} if self.request_id else shown


class ApiError(CliError):
    """The server's own answer that something is wrong (a problem document, or what a proxy said instead). ``pointers``:
    JSON pointers into the body that it names."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        remedy: str = "",
        request_id: str = "",
        pointers: tuple[str, ...] = (),
    ) -> None:
        exit_code = ExitCode.UNREACHABLE if status in {502, 503, 504} else ExitCode.FAILED
        super().__init__(message, code=code, remedy=remedy, request_id=request_id, exit_code=exit_code)
        self.status = status
        self.pointers = pointers

    def refuses_field(self, name: str) -> bool:
        """Whether this field of the body was refused: a server of the version before may not know it."""
        return self.status == HTTPStatus.UNPROCESSABLE_ENTITY and any(
            pointer == f"/{name}" or pointer.startswith(f"/{name}/") for pointer in self.pointers
        )


def explained(error: BaseException) -> CliError | None:
    """The failure as a ``CliError``; None when it is a defect of ours, whose traceback is worth seeing."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]  # a task group wraps what ended it
    if isinstance(error, CliError):
        return error
    # Imported here: only a failing command pays for it.
    from echo_core.plugin_api.errors import EchoError

    if isinstance(error, EchoError):
        return CliError(error.message, code=error.code, remedy=error.remedy, exit_code=_exit_code(error.code))
    if isinstance(error, ConnectionError):
        return CliError(f"The connection failed: {error}.", code="cannot_connect", exit_code=ExitCode.UNREACHABLE)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return CliError(f"{where}{error.strerror}.", code="file_error")
    return None


def _exit_code(code: str) -> ExitCode:
    if code in ALREADY_RUNNING_CODES:
        return ExitCode.ALREADY_RUNNING
    if code in USAGE_CODES:
        return ExitCode.USAGE
    return ExitCode.UNREACHABLE if code in UNREACHABLE_CODES else ExitCode.FAILED
