"""The OpenAPI 3.1 document, made from the operations and from the models that validate and answer."""

from __future__ import annotations

import http
import json
import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import echo_core
from echo_core.entrypoints.http.errors import PROBLEM_JSON, Problem, new_problem
from echo_core.entrypoints.http.middleware import QUIET_PATHS
from echo_core.entrypoints.http.operations import Answer, Operation

Json = dict[str, object]

REF = "#/components/schemas/{name}"
BAD_REQUEST, UNAUTHORIZED, NOT_FOUND, CONFLICT, TOO_LARGE, MEDIA_TYPE, INVALID, TOO_MANY, FAILED, DOWN = (
    400,
    401,
    404,
    409,
    413,
    415,
    422,
    429,
    500,
    503,
)
TAGS = {
    "uploads": "Bytes go straight to the storage; the API only says where.",
    "videos": "The caller's videos. What belongs to somebody else is 404.",
    "jobs": "The work on a video, step by step.",
    "captions": "What is said, as text with times: read, uploaded, edited.",
    "suggestions": "What AI proposes for a video, and what it takes.",
    "playback": "For players: playlists and pictures, with a playback token in the query.",
    "realtime": "Live status over a WebSocket at `/ws/jobs/status/{userId}`.",
    "system": "The instance itself.",
}
DESCRIPTION = (
    "JSON in camelCase, times in RFC 3339 UTC, ids are UUIDv7. Every error is a problem document (RFC 9457) with a "
    "stable `code`, a sentence for people in `detail`, what to do in `remedy`, and the `requestId`. `Idempotency-Key` "
    "is honoured on every POST: the same request under the same key is done once and answered with the first answer. "
    "`RateLimit` and `RateLimit-Policy` tell how many requests are left; 429 comes with `Retry-After`."
)


def openapi_document(operations: Sequence[Operation]) -> Json:
    """The document. The same operations give the same text, whatever the instance."""
    paths: dict[str, Json] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Echo",
            "version": echo_core.__version__,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": _schemas(operations),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "playbackToken": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "token",
                    "description": "Plays one video for a while; part of the addresses that its details give.",
                },
            },
        },
    }


def openapi_text(operations: Sequence[Operation]) -> str:
    """The document as the file in the repository has it."""
    return json.dumps(openapi_document(operations), indent=2, ensure_ascii=False) + "\n"


def _operation(operation: Operation) -> Json:
    viewer: tuple[Json, ...] = ({"playbackToken": []}, {"bearer": []})
    # An empty requirement: credentials are optional (OpenAPI 3.1, Security Requirement Object).
    security = {"none": (), "user": ({"bearer": []},), "viewer": viewer, "anybody": (*viewer, {})}[operation.auth]
    document: Json = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "security": list(security),
        "parameters": list(_parameters(operation)),
        "responses": _responses(operation),
    }
    if operation.description:
        document["description"] = operation.description
    if operation.body is not None:
        document["requestBody"] = {
            "required": not operation.body_optional,
            "content": {
                "application/json": {
                    "schema": {"$ref": REF.format(name=operation.body.__name__)},
                    "example": operation.body_example,
                }
            },
        }
    return document


def _parameters(operation: Operation) -> Iterator[Json]:
    for name in re.findall(r"{(\w+)}", operation.path):
        schema = {"type": "string", "format": "uuid"} if name.endswith("Id") else {"type": "string"}
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    if operation.query is not None:
        yield from _query_parameters(operation.query)
    if operation.method == "POST" and operation.auth == "user":
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "Any unique text, best a UUID: the request is then done once, however often it is sent.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }
    for header, text in operation.request_headers.items():
        yield {"name": header, "in": "header", "description": text, "schema": {"type": "string"}}


def _query_parameters(model: type[BaseModel]) -> Iterator[Json]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    for name, described in schema["properties"].items():
        if name == "token":
            continue  # a security scheme
        options = [option for option in described.pop("anyOf", ()) if option != {"type": "null"}]
        described.pop("title", None)
        if options:
            described = {**options[0], **{k: v for k, v in described.items() if v is not None}}
        yield {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": described}


def _responses(operation: Operation) -> Json:
    answers: Json = {str(status): _answer(answer) for status, answer in operation.answers.items()}
    for status, codes in sorted(_problem_codes(operation).items()):
        answers[str(status)] = _problem(status, codes)
    return answers


def _answer(answer: Answer) -> Json:
    document: Json = {"description": answer.description}
    headers: Json = {"X-Request-Id": {"description": "The request's id.", "schema": {"type": "string"}}}
    for name, text in answer.headers.items():
        headers[name] = {"description": text, "schema": {"type": "string"}}
    document["headers"] = headers
    if answer.model is not None:
        content: Json = {"schema": {"$ref": REF.format(name=answer.model.__name__)}}
        if answer.example is not None:
            content["example"] = answer.example
        document["content"] = {answer.media_type: content}
    elif answer.media_type and (answer.media_type != "application/json" or answer.description == "OpenAPI 3.1."):
        schema = {"type": "object"} if answer.media_type == "application/json" else {"type": "string"}
        document["content"] = {answer.media_type: {"schema": schema, **_example(answer)}}
    return document


def _example(answer: Answer) -> Json:
    return {"example": answer.example} if answer.example is not None else {}


def _problem_codes(operation: Operation) -> dict[int, tuple[str, ...]]:
    """The operation's own codes and those of its kind."""
    codes: dict[int, list[str]] = {status: list(own) for status, own in operation.problems.items()}

    def add(status: int, *more: str) -> None:
        known = codes.setdefault(status, [])
        known.extend(code for code in more if code not in known)

    if operation.auth != "none":
        add(UNAUTHORIZED, "token_missing", "token_expired", "token_invalid")
        add(DOWN, "provider_unavailable")
    if operation.query is not None:
        add(INVALID, "validation_failed")
    if operation.body is not None:
        add(BAD_REQUEST, "malformed_json")
        add(TOO_LARGE, "body_too_large")
        add(MEDIA_TYPE, "unsupported_media_type")
        add(INVALID, "validation_failed")
    if operation.method == "POST" and operation.auth == "user":
        add(BAD_REQUEST, "invalid_idempotency_key")
        if operation.answer_is_kept:
            add(CONFLICT, "idempotency_in_progress")
            add(INVALID, "idempotency_key_reused")
    if operation.path not in QUIET_PATHS:
        add(TOO_MANY, "rate_limited")
    add(FAILED, "internal_error")
    return {status: tuple(known) for status, known in codes.items()}


def _problem(status: int, codes: Sequence[str]) -> Json:
    headers: Json = {"X-Request-Id": {"description": "The request's id.", "schema": {"type": "string"}}}
    if status == UNAUTHORIZED:
        headers["WWW-Authenticate"] = {"description": "The challenge (RFC 6750).", "schema": {"type": "string"}}
    if status == TOO_MANY:
        headers["RateLimit"] = {"description": "Which limit, and when to come back.", "schema": {"type": "string"}}
        headers["RateLimit-Policy"] = {"description": "How large it is.", "schema": {"type": "string"}}
    if status in {TOO_MANY, DOWN}:
        headers["Retry-After"] = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
    example = msgspec.to_builtins(new_problem(status, codes[0], "What went wrong.", "What to do about it."))
    return {
        "description": f"{http.HTTPStatus(status).phrase}: {', '.join(f'`{code}`' for code in codes)}.",
        "headers": headers,
        "content": {
            PROBLEM_JSON: {
                "schema": {"$ref": REF.format(name="Problem")},
                "example": {**example, "requestId": "0198f3c5-0f0e-7a1b-8c2d-3e4f5a6b7c8d"},
            }
        },
    }


def _schemas(operations: Sequence[Operation]) -> Json:
    """All models by name, ordered, so that the document does not change with the order of imports."""
    bodies = {o.body for o in operations if o.body is not None}
    queries = {o.query for o in operations if o.query is not None}
    models = {a.model for o in operations for a in o.answers.values() if a.model is not None}
    ordered = sorted(bodies | queries, key=lambda m: m.__name__)
    _, requests = models_json_schema(
        [(model, "validation") for model in ordered], ref_template="#/components/schemas/{model}"
    )
    answers: list[type[msgspec.Struct]] = sorted([*models, Problem], key=lambda m: m.__name__)
    _, components = msgspec.json.schema_components(answers, ref_template=REF)
    schemas: dict[str, Mapping[str, object]] = {**requests["$defs"], **components}
    for query in queries:
        schemas.pop(query.__name__, None)
    return {name: _tidied(schemas[name]) for name in sorted(schemas)}


def _tidied(schema: Mapping[str, object]) -> Json:
    """Without the titles that only repeat names; times as what they are (msgspec leaves the format out)."""
    tidy = json.loads(json.dumps(schema))
    for name, described in tidy.get("properties", {}).items():
        described.pop("title", None)
        if name.endswith("At"):
            for option in [described, *described.get("anyOf", ())]:
                if option.get("type") == "string":
                    option["format"] = "date-time"
    tidied: Json = tidy
    return tidied
