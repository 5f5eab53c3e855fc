"""Zendesk's OpenAPI document, and how one exchange differs from it.

A difference is named by operation, side, place and kind, with ids and positions left out, so that a hundred rows that
differ in one way are one deviation. Nothing here knows which differences are excused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import requests
import yaml
from jsonschema.exceptions import ValidationError  # type: ignore[import-untyped]
from openapi_core import Config, OpenAPI
from openapi_core.contrib.requests import RequestsOpenAPIRequest, RequestsOpenAPIResponse
from openapi_core.templating.responses.exceptions import ResponseNotFound
from openapi_schema_validator import OAS30WriteValidator

Schema = Mapping[str, Any]

RECORDS = {
    "organization": ("OrganizationObject",),
    "user": ("UserObject", "UserInput"),
    "identity": ("UserIdentityObject", "UserIdentityInput"),
    "organization_membership": ("OrganizationMembershipObject",),
    "ticket": ("TicketObject",),
    "trigger": ("TriggerObject",),
    "organization_field": ("OrganizationFieldObject",),
    "user_field": ("UserFieldObject",),
}
"""Where the document describes the records that we send: many of its operations declare no body at all."""


@dataclass(frozen=True, order=True, slots=True)
class Deviation:
    """One way in which an operation's request or answer differs from the document."""

    operation: str
    side: Literal["request", "answer"]
    place: str
    kind: str


class _Loader(yaml.CSafeLoader):
    """YAML 1.1 gives a bare `=` a tag that the safe loader does not know."""


def _as_text(_loader: yaml.CSafeLoader, node: yaml.Node) -> str:
    return str(node.value)


_Loader.add_constructor("tag:yaml.org,2002:value", _as_text)


class Document:
    """The document at `path`, as if it described the server at `url`."""

    def __init__(self, path: Path, url: str) -> None:
        with path.open(encoding="utf-8") as file:
            self._spec: dict[str, Any] = yaml.load(file, _Loader)  # noqa: S506 - derived from the safe loader
        # Which credentials are right is not the document's to judge: it knows basic authentication only.
        self._spec |= {"servers": [{"url": url}], "security": []}
        _settle_nested(self._spec["components"]["parameters"].values())
        self._openapi = OpenAPI.from_dict(self._spec, Config(spec_validator_cls=None))
        self._templates = [(_pattern(template), template) for template in sorted(self._spec["paths"], key=_generality)]

    def operation(self, request: requests.PreparedRequest) -> str | None:
        """`GET /api/v2/users/{user_id}`, or None if the document has no such operation."""
        path = urlsplit(request.url or "").path
        template = next((template for pattern, template in self._templates if pattern.fullmatch(path)), None)
        method = str(request.method)
        known = template is not None and method.lower() in self._spec["paths"][template]
        return f"{method} {template}" if known else None

    def request_deviations(self, request: requests.PreparedRequest) -> set[Deviation]:
        """How a request that we sent differs."""
        operation = self.operation(request) or ""
        problems = [*self._declared(RequestsOpenAPIRequest(request)), *self._query(request, operation)]
        problems += self._body(request, operation)
        return {Deviation(operation, "request", place, kind) for place, kind in problems}

    def answer_deviations(self, request: requests.PreparedRequest, answer: requests.Response) -> set[Deviation]:
        """How a 2xx answer differs. One with an undeclared status is judged as the one 2xx that is declared."""
        operation = self.operation(request) or ""
        asked, given = RequestsOpenAPIRequest(request), _Answer(answer)
        problems: list[tuple[str, str]] = []
        for error in self._openapi.iter_response_errors(asked, given):
            if isinstance(error, ResponseNotFound):
                problems.append(("status", f"{answer.status_code} is not declared"))
                given.status_code = self._success(operation)
                problems += _places(self._openapi.iter_response_errors(asked, given))
            else:
                problems += _places([error])
        problems += self._more(operation, str(given.status_code), answer)
        return {Deviation(operation, "answer", place, kind) for place, kind in problems}

    def _more(self, operation: str, status: str, answer: requests.Response) -> Iterator[tuple[str, str]]:
        """Fields of an answer that are not declared, at any depth."""
        schema = _content(self._resolved(self._at(operation)["responses"].get(status, {})))
        if schema is not None and answer.content:
            yield from self._undeclared([schema], answer.json(), [])

    def _declared(self, request: RequestsOpenAPIRequest) -> list[tuple[str, str]]:
        return list(_places(self._openapi.iter_request_errors(request)))

    def _query(self, request: requests.PreparedRequest, operation: str) -> Iterator[tuple[str, str]]:
        """Parameters that the operation does not declare."""
        known = set(self._parameters(operation))
        for name, _ in parse_qsl(urlsplit(request.url or "").query, keep_blank_values=True):
            if name not in known:
                yield f"query {name}", "is not declared"

    def _parameters(self, operation: str) -> Iterator[str]:
        """The names of an operation's query parameters; those of a nested one as `page[size]`."""
        declared = [*self._at(operation).get("parameters", ())]
        declared += self._spec["paths"][operation.split(" ", 1)[1]].get("parameters", ())
        for parameter in map(self._resolved, declared):
            yield parameter["name"]
            for name in self._properties(parameter.get("schema", {})):
                yield f"{parameter['name']}[{name}]"

    def _body(self, request: requests.PreparedRequest, operation: str) -> Iterator[tuple[str, str]]:
        """Fields that neither the operation nor the document's records have, or have as something else."""
        body = json.loads(request.body) if request.body else {}
        declared = self._declared_body(operation) if operation else {}
        for envelope, value in body.items():
            record = envelope.removesuffix("s") if envelope != "identities" else "identity"
            if record in RECORDS:
                known = self._record(record, declared.get(envelope, []))
                for row in value if isinstance(value, list) else [value]:
                    yield from self._fields(envelope, row, known)
            elif envelope in declared:
                yield from self._undeclared(declared[envelope], value, [envelope])
            else:
                yield envelope, "is not declared"

    def _declared_body(self, operation: str) -> dict[str, list[Schema]]:
        """The top of the body that an operation itself declares, if it does."""
        schema = _content(self._resolved(self._at(operation).get("requestBody", {})))
        return {} if schema is None else self._properties(schema)

    def _record(self, record: str, declared: list[Schema]) -> dict[str, list[Schema]]:
        """The fields of a record: those that the document gives it, and those that the operation adds."""
        found: dict[str, list[Schema]] = {}
        for schema in [*declared, *self._items(declared)]:
            for field, schemas in self._properties(schema).items():
                found.setdefault(field, []).extend(schemas)
        for name in RECORDS[record]:
            for field, schemas in self._properties(self._spec["components"]["schemas"].get(name, {})).items():
                found.setdefault(field, []).extend(schemas)
        return found

    def _fields(self, envelope: str, row: Mapping[str, Any], known: Mapping[str, list[Schema]]) -> Any:
        for field, value in row.items():
            if field not in known:
                yield f"{envelope}.{field}", "is not declared"
                continue
            errors = [list(self._validator(schema).iter_errors(value)) for schema in known[field]]
            fewest = min(errors, key=len)
            yield from ((f"{envelope}.{_dotted([field, *where])}", kind) for where, kind in _leaves(fewest))
            yield from self._undeclared(known[field], value, [envelope, field])

    def _undeclared(self, schemas: list[Schema], value: Any, where: list[Any]) -> Iterator[tuple[str, str]]:
        """Fields, at any depth, that none of the schemas names. Objects of which nothing is said may hold anything."""
        if isinstance(value, list):
            for row in value:
                yield from self._undeclared(self._items(schemas), row, [*where, 0])
        if not isinstance(value, dict) or any(map(self._is_open, schemas)):
            return
        known: dict[str, list[Schema]] = {}
        for schema in schemas:
            for field, found in self._properties(schema).items():
                known.setdefault(field, []).extend(found)
        for field, inner in value.items() if known else ():
            if field in known:
                yield from self._undeclared(known[field], inner, [*where, field])
            else:
                yield _dotted([*where, field]), "is not declared"

    def _parts(self, schema: Schema) -> Iterator[Schema]:
        """A schema and those that it is put together from."""
        schema = self._resolved(schema)
        yield schema
        for part in [*schema.get("allOf", ()), *schema.get("anyOf", ()), *schema.get("oneOf", ())]:
            yield from self._parts(part)

    def _is_open(self, schema: Schema) -> bool:
        return any(part.get("additionalProperties") for part in self._parts(schema))

    def _items(self, schemas: list[Schema]) -> list[Schema]:
        return [part["items"] for schema in schemas for part in self._parts(schema) if "items" in part]

    def _validator(self, schema: Schema) -> OAS30WriteValidator:
        return OAS30WriteValidator({**schema, "components": self._spec["components"]})

    def _properties(self, schema: Schema) -> dict[str, list[Schema]]:
        """Every property that a schema, or one of those it is put together from, names."""
        found: dict[str, list[Schema]] = {}
        for part in self._parts(schema):
            for name, value in part.get("properties", {}).items():
                found.setdefault(name, []).append(value)
        return found

    def _resolved(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            found: Any = self._spec
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        return schema

    def _at(self, operation: str) -> dict[str, Any]:
        method, path = operation.split(" ", 1)
        found: dict[str, Any] = self._spec["paths"][path][method.lower()]
        return found

    def _success(self, operation: str) -> int:
        return next(int(status) for status in self._at(operation)["responses"] if status.startswith("2"))


class _Answer(RequestsOpenAPIResponse):
    """An answer whose status can be set for judging its body."""

    status_code = 0

    def __init__(self, answer: requests.Response) -> None:
        super().__init__(answer)
        self.status_code = answer.status_code


def _settle_nested(parameters: Iterable[dict[str, Any]]) -> None:
    """openapi-core reads a nested parameter only if its schema is an object alone; `page` may also be a number."""
    for parameter in parameters:
        options = parameter.get("schema", {}).get("oneOf", ())
        if parameter.get("style") == "deepObject" and options:
            parameter["schema"] = next(option for option in options if option["type"] == "object")


def _content(part: Schema) -> Schema | None:
    """The schema of a request body's or an answer's JSON, if it has one."""
    return next((found.get("schema") for found in part.get("content", {}).values()), None)


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{.*?\\}", "[^/]+", re.escape(template)))


def _generality(template: str) -> int:
    return template.count("{")


def _places(errors: Any) -> Iterator[tuple[str, str]]:
    """Where and how, for each error of openapi-core."""
    for error in errors:
        cause = error.__cause__
        found = getattr(cause, "schema_errors", None)
        if found:
            yield from ((_dotted(where) or "body", kind) for where, kind in _leaves(found))
        elif name := getattr(error, "name", None):
            yield f"query {name}", str(cause or error)
        else:
            yield "body", f"{type(error).__name__}: {cause or error}"


def _leaves(errors: Sequence[ValidationError]) -> Iterator[tuple[list[Any], str]]:
    """The places at the bottom of a list of errors. Of several alternatives, the one that fits best."""
    for error in errors:
        where = list(error.absolute_path)
        branches = _branches(error)
        deeper = [list(_leaves(branch)) for branch in branches]
        if not deeper or error.instance is None:
            yield where, _kind(error)
        else:
            yield from min(deeper, key=_unfitness)


def _unfitness(leaves: Sequence[tuple[list[Any], str]]) -> tuple[int, int]:
    """An alternative that fails deep inside was meant; of two such, the one that fails in fewer ways."""
    return -max(len(place) for place, _ in leaves), len({(_dotted(place), kind) for place, kind in leaves})


def _branches(error: ValidationError) -> list[list[ValidationError]]:
    grouped: dict[Any, list[ValidationError]] = {}
    for inner in error.context or ():
        grouped.setdefault(inner.schema_path[0], []).append(inner)
    return list(grouped.values())


def _kind(error: ValidationError) -> str:
    """What is wrong, without the value."""
    found = {type(None): "null", bool: "a boolean", str: "text", list: "a list", dict: "an object"}
    is_what = found.get(type(error.instance), "a number")
    if error.validator == "required":
        return str(error.message)
    if error.instance is None:
        return "is null"
    if error.validator == "type":
        return f"is {is_what}, not {error.validator_value}"
    return f"is {is_what} that breaks {error.validator}"


def _dotted(where: Sequence[Any]) -> str:
    return ".".join("*" if isinstance(part, int) else str(part) for part in where)
