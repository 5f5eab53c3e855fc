"""The judge itself, on a description that is invented here: it must see what is wrong, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.conformance.document import Deviation, Document
from tests.conformance.known import Known

URL = "http://127.0.0.1:1"
RULE = "#/components/schemas/Rule"
MANY, ONE = "POST /api/v2/organizations", "GET /api/v2/organizations/{id}"


def ok(schema: dict[str, Any], status: str = "200") -> dict[str, Any]:
    """The answers of an operation that has one."""
    return {status: {"description": "ok", "content": {"application/json": {"schema": schema}}}}


def described() -> dict[str, Any]:
    """One kind of record, to be made and shown, and lists by a nested page."""
    answer = {
        "type": "object",
        "required": ["organization"],
        "properties": {"organization": {"$ref": "#/components/schemas/OrganizationObject"}},
    }
    fields = {
        "id": {"type": "integer", "readOnly": True},
        "name": {"type": "string"},
        "group_id": {"type": "integer", "nullable": True},
        "rules": {"type": "object", "properties": {"all": {"type": "array", "items": {"$ref": RULE}}}},
        "organization_fields": {"type": "object", "additionalProperties": {"type": "string"}},
        "anything": {"type": "object"},
    }
    rule = {"type": "object", "properties": {"field": {"type": "string"}, "value": {"type": "string"}}}
    page = {"oneOf": [{"type": "integer"}, {"type": "object", "properties": {"size": {"type": "integer"}}}]}
    nested = {"name": "page", "in": "query", "style": "deepObject", "explode": True, "schema": page}
    listed = {"parameters": [{"$ref": "#/components/parameters/Page"}], "responses": ok({"type": "object"})}
    shown = {
        "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}],
        "responses": ok(answer),
    }
    return {
        "openapi": "3.0.3",
        "info": {"title": "Invented", "version": "1"},
        "paths": {
            "/api/v2/organizations": {"get": listed, "post": {"responses": ok(answer, "201")}},
            "/api/v2/organizations/{id}": {"get": shown},
        },
        "components": {
            "parameters": {"Page": nested},
            "schemas": {
                "OrganizationObject": {"type": "object", "required": ["name"], "properties": fields},
                "Rule": rule,
            },
        },
    }


@pytest.fixture
def document(tmp_path: Path) -> Document:
    """The invented description, read as a file."""
    path = tmp_path / "described.yaml"
    path.write_text(yaml.safe_dump(described()).replace("Invented", "="))
    return Document(path, URL)


def request(method: str, path: str, body: Any = None) -> requests.PreparedRequest:
    """A request as it would be sent."""
    return requests.Request(method, URL + path, json=body).prepare()


def answer(body: Any, status: int = 200) -> requests.Response:
    """An answer as it would come."""
    made = requests.Response()
    made.status_code = status
    made._content = json.dumps(body).encode()
    made.headers["Content-Type"] = "application/json; charset=utf-8"
    return made


@pytest.mark.parametrize(
    ("sent", "places"),
    [
        ({"name": "Alder", "group_id": None}, []),
        ({"nmae": "Alder"}, [("organization.nmae", "is not declared")]),
        ({"name": 1}, [("organization.name", "is a number, not string")]),
        ({"name": "Alder", "id": 1}, [("organization.id", "is a number that breaks readOnly")]),
        ({"rules": {"all": [{"field": "x"}]}, "organization_fields": {"a": "b"}, "anything": {"at": {"all": 1}}}, []),
        ({"rules": {"al": []}}, [("organization.rules.al", "is not declared")]),
        ({"rules": {"all": [{"filed": "x"}]}}, [("organization.rules.all.*.filed", "is not declared")]),
        ({"rules": {"all": [{"field": 1}]}}, [("organization.rules.all.*.field", "is a number, not string")]),
    ],
    ids=[
        "as declared",
        "misspelt",
        "of another type",
        "read-only",
        "deep, as declared",
        "misspelt in an object",
        "misspelt in a list",
        "of another type in a list",
    ],
)
def test_a_body_is_judged_by_the_record_where_the_operation_declares_none(
    document: Document, sent: dict[str, Any], places: list[tuple[str, str]]
) -> None:
    """Each field that we send must be one of the record's, and of its type."""
    found = document.request_deviations(request("POST", "/api/v2/organizations", {"organization": sent}))
    assert found == {Deviation(MANY, "request", *place) for place in places}


def test_a_body_that_nobody_describes_is_told(document: Document) -> None:
    """An envelope that is neither the operation's nor a record's is not declared."""
    found = document.request_deviations(request("POST", "/api/v2/organizations", {"organisation": {}}))
    assert found == {Deviation(MANY, "request", "organisation", "is not declared")}


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ("page[size]=100", []),
        ("page[size]=many", [("query page", "Failed to cast value to integer type: many")]),
        ("limit=100", [("query limit", "is not declared")]),
    ],
    ids=["as declared", "of another type", "undeclared"],
)
def test_parameters_are_judged(document: Document, query: str, places: list[tuple[str, str]]) -> None:
    """A parameter must be declared and of its type, nested ones too."""
    found = document.request_deviations(request("GET", f"/api/v2/organizations?{query}"))
    assert found == {Deviation("GET /api/v2/organizations", "request", *place) for place in places}


@pytest.mark.parametrize(
    ("given", "status", "places"),
    [
        ({"organization": {"id": 1, "name": "Alder", "anything": {"more": 1}}}, 200, []),
        ({"organization": {"name": "A", "more": 1}}, 200, [("organization.more", "is not declared")]),
        (
            {"organization": {"name": "A", "rules": {"all": [{"more": 1}]}}},
            200,
            [("organization.rules.all.*.more", "is not declared")],
        ),
        ({"organization": {"id": 1}}, 200, [("organization", "'name' is a required property")]),
        (
            {"organization": {"id": "1", "name": None}},
            200,
            [("organization.id", "is text, not integer"), ("organization.name", "is null")],
        ),
        ({}, 202, [("status", "202 is not declared"), ("body", "'organization' is a required property")]),
    ],
    ids=[
        "as declared",
        "a field too many",
        "one deep inside",
        "a field missing",
        "of another type and null",
        "another status, judged all the same",
    ],
)
def test_answers_are_judged(document: Document, given: Any, status: int, places: list[tuple[str, str]]) -> None:
    """Required fields must be there, and all fields declared and of their types, however deep they lie."""
    found = document.answer_deviations(request("GET", "/api/v2/organizations/1"), answer(given, status))
    assert found == {Deviation(ONE, "answer", *place) for place in places}


def test_what_the_document_does_not_have_is_told_apart(document: Document) -> None:
    """A path or a method that is not there has no operation; a fixed path goes before one with a variable."""
    assert document.operation(request("GET", "/api/v2/webhooks")) is None
    assert document.operation(request("DELETE", "/api/v2/organizations")) is None
    assert document.operation(request("GET", "/api/v2/organizations/7")) == ONE


def test_an_excuse_covers_its_own_side_place_and_kind() -> None:
    """Patterns match by `*` only; brackets stand for themselves."""
    known = Known("request", "GET */organizations", "query page[size]", "is not *", "")
    here = Deviation("GET /api/v2/organizations", "request", "query page[size]", "is not declared")
    assert known.covers(here)
    assert not known.covers(Deviation(here.operation, "answer", here.place, here.kind))
    assert not known.covers(Deviation(here.operation, "request", "query pages", here.kind))
