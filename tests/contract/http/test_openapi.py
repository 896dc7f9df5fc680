from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from echo_core.entrypoints.http import api
from echo_core.entrypoints.http.openapi import openapi_document
from echo_core.entrypoints.http.operations import Operation
from tests.fakes.api import FakeApi

COMMITTED = Path(__file__).parents[3] / "openapi.json"
DOCUMENT: dict[str, Any] = json.loads(json.dumps(openapi_document(api.ALL_OPERATIONS)))

each_operation = pytest.mark.parametrize("operation", api.ALL_OPERATIONS, ids=lambda o: o.id)


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(child)


def test_the_committed_document_is_what_the_code_says() -> None:
    hint = "the contract changed: if that is meant, run `echoctl openapi > openapi.json`"
    assert COMMITTED.read_text(encoding="utf-8") == api.committed_openapi(), hint


def test_operation_ids_are_unique() -> None:
    ids = [operation.id for operation in api.ALL_OPERATIONS]
    assert len(ids) == len(set(ids))


def test_every_reference_resolves_and_every_schema_is_used() -> None:
    references = {node["$ref"] for node in nodes(DOCUMENT) if "$ref" in node}
    schemas = DOCUMENT["components"]["schemas"]
    assert references <= {f"#/components/schemas/{name}" for name in schemas}
    assert {f"#/components/schemas/{name}" for name in schemas} <= references


@each_operation
def test_path_parameters_are_those_of_the_path(operation: Operation) -> None:
    parameters = DOCUMENT["paths"][operation.path][operation.method.lower()]["parameters"]
    described = {p["name"] for p in parameters if p["in"] == "path"}
    assert described == set(re.findall(r"{(\w+)}", operation.path))


@each_operation
def test_every_operation_says_who_may_call_it_and_how_it_fails(operation: Operation) -> None:
    described = DOCUMENT["paths"][operation.path][operation.method.lower()]
    statuses = set(described["responses"])
    assert "500" in statuses
    assert ("401" in statuses) == bool(described["security"])
    for status, answer in described["responses"].items():
        if int(status) >= 400:
            assert list(answer["content"]) == ["application/problem+json"]


@each_operation
def test_examples_fit_their_models(operation: Operation) -> None:
    if operation.body is not None:
        operation.body.model_validate_json(json.dumps(operation.body_example))
    for answer in operation.answers.values():
        if answer.model is not None:
            assert answer.example is not None, "every JSON answer has an example"
            decoded = msgspec.json.decode(json.dumps(answer.example), type=answer.model)
            assert msgspec.to_builtins(decoded).keys() == answer.example.keys()  # type: ignore[attr-defined]


async def test_the_document_and_its_page_are_served_without_a_token() -> None:
    async with FakeApi().client(user=None) as client:
        document = await client.get("/openapi.json")
        page = await client.get("/docs")
    assert document.json() == DOCUMENT
    assert page.headers["content-type"].startswith("text/html")
    assert all(operation.path in page.text for operation in api.ALL_OPERATIONS)


async def test_the_page_needs_nothing_from_elsewhere_and_runs_no_script() -> None:
    async with FakeApi().client(user=None) as client:
        page = await client.get("/docs")
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert re.findall(r'(?:src|href)="(?!#|/)', page.text) == []


async def test_every_code_that_the_guide_names_is_on_the_page() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "http.md").read_text()
    table = guide.partition("| status | means |")[2].partition("\n\n")[0]
    named = {code for code in re.findall(r"`([a-z_]+)`", table) if "_" in code}
    async with FakeApi().client(user=None) as client:
        page = await client.get("/docs")
    assert {"server_busy", "quota_exceeded"} <= named
    assert [code for code in sorted(named) if f'id="problem-{code}"' not in page.text] == []


async def test_the_type_of_a_problem_is_an_anchor_of_the_page() -> None:
    async with FakeApi().client(user=None) as client:
        problem = (await client.get("/api/v1/videos")).json()
        page = await client.get("/docs")
    path, _, anchor = problem["type"].partition("#")
    assert path == "/docs"
    assert f'id="{anchor}"' in page.text
