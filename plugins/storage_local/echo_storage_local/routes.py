"""The plugin's routes: the signature is checked first, then a route does its work."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from echo_core.plugin_api import EchoError
from echo_storage_local.backend import LocalStorage
from echo_storage_local.problems import problem, problem_of
from echo_storage_local.read_routes import send_object
from echo_storage_local.signing import Access, SignatureExpiredError, SignatureInvalidError
from echo_storage_local.upload_routes import abort_upload, initiate_upload, receive_upload

_NEW_URL = "Ask for a new one: read the video again, or resume the upload."


async def read(request: Request) -> Response:
    """GET or HEAD of an object."""
    key = request.path_params["key"]
    admitted = _admit(request, "read", f"/objects/{key}")
    if isinstance(admitted, Response):
        return admitted
    storage, fields = admitted
    try:
        return await send_object(request, storage, key, fields)
    except EchoError as error:
        return problem_of(error)


async def upload(request: Request) -> Response:
    """PUT, POST or DELETE of an upload."""
    upload_id = request.path_params["upload_id"]
    admitted = _admit(request, "upload", f"/uploads/{upload_id}/{request.path_params['key']}")
    if isinstance(admitted, Response):
        return admitted
    storage, _ = admitted
    try:
        if request.method == "DELETE":
            return await abort_upload(storage, upload_id)
        if request.method == "POST":
            return await initiate_upload(request, storage, upload_id)
        return await receive_upload(request, storage, upload_id)
    except EchoError as error:
        return problem_of(error)


def _admit(request: Request, access: Access, path: str) -> tuple[LocalStorage, dict[str, str]] | Response:
    storage = getattr(request.state, "storage", None)
    if not isinstance(storage, LocalStorage):
        return problem(
            404,
            "not_found",
            "This instance does not store on local disk.",
            remedy="Use the URLs that the API gives out.",
        )
    try:
        return storage, storage.signer.verify(access, path, request.query_params.multi_items())
    except SignatureExpiredError:
        return problem(403, "signed_url_expired", "This URL has expired.", remedy=_NEW_URL)
    except SignatureInvalidError:
        return problem(403, "signed_url_invalid", "This URL is not valid.", remedy=_NEW_URL)


def make_routes() -> list[BaseRoute]:
    """The routes, relative to where the kernel mounts them."""
    return [
        Route("/objects/{key:path}", read, methods=["GET", "HEAD"]),
        Route("/uploads/{upload_id}/{key:path}", upload, methods=["PUT", "POST", "DELETE"]),
    ]
