"""Search over tickets, users and organizations at once: by number up to 1,000 results, or as an export by cursor.

https://developer.zendesk.com/api-reference/ticketing/ticket-management/search/
A query is words and terms: `type:user`, `email:a@b.example`, `status<solved`, `created>=2026-01-31`, `-tags:vip`,
`"two words"`. All of them must fit. Groups do not exist here. What changed less than `search_lag` ago is not found.
"""

from __future__ import annotations

import base64
import binascii
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import TYPE_CHECKING, Any

from ..clock import parse_instant
from ..web import Call, Refusal, Reply, joined, refuse, reply_json
from .errors import bad_request
from .models import STATUS_IDS
from .paging import link, number
from .store import Table, fold

if TYPE_CHECKING:
    from ..state import State
    from .models import Organization, Ticket, User

MOST = 1000
CURSOR_LIFE = 3600
TYPES = ("ticket", "user", "organization")
COMPARED = {">=": ge, "<=": le, ">": gt, "<": lt}
TIMES = {"created": "created_at", "updated": "updated_at"}
TEXTS = {
    "ticket": ("subject", "description"),
    "user": ("name", "email", "notes"),
    "organization": ("name", "notes", "details"),
}
Hit = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a query; a plain word has no field."""

    field: str
    operator: str
    value: str
    negated: bool

    @classmethod
    def read(cls, text: str) -> Term:
        negated = text.startswith("-") and len(text) > 1
        text = text[1:] if negated else text
        for operator in (">=", "<=", ">", "<", ":"):
            field, found, value = text.partition(operator)
            if found and field.isidentifier():
                return cls(field.lower(), operator, value, negated)
        return cls("", ":", text, negated)

    def fits(self, kind: str, row: Any) -> bool:
        return self._holds(kind, row) != self.negated

    def _holds(self, kind: str, row: Any) -> bool:
        if not self.field:
            return any(fold(self.value) in fold(str(getattr(row, name) or "")) for name in TEXTS[kind])
        if self.field in TIMES:
            return self._compares(parse_instant(getattr(row, TIMES[self.field])), _instant(self.value))
        if self.field == "status" and kind == "ticket":
            return self._compares(STATUS_IDS.get(row.status, 0), STATUS_IDS.get(self.value, -1))
        found = getattr(row, _attribute(self.field, kind), None)
        if isinstance(found, list):
            return fold(self.value) in found
        if self.field in ("name", "subject"):
            return fold(self.value) in fold(str(found or ""))
        return fold("none" if found is None else str(found)) == fold(self.value)

    def _compares(self, found: float, wanted: float) -> bool:
        if self.operator in COMPARED:
            return bool(COMPARED[self.operator](found, wanted))
        return wanted <= found < wanted + 86400 if self.field in TIMES else found == wanted


def _attribute(field: str, kind: str) -> str:
    names = {"requester": "requester_id", "organization": "organization_id", "assignee": "assignee_id"}
    if kind == "ticket":
        names |= {"ticket_type": "type", "external_id": "external_id"}
    return names.get(field, field)


def _instant(text: str) -> float:
    try:
        return parse_instant(text)
    except ValueError:
        raise _invalid("Invalid search: the date is not valid") from None


def _invalid(text: str) -> Refusal:
    return refuse(422, {"error": "invalid", "description": text})


def _terms(call: Call) -> list[Term]:
    if "query" not in call.query:
        raise bad_request("query is missing")
    try:
        parts = shlex.split(call.query["query"].replace("'", "\\'"))
    except ValueError:
        parts = call.query["query"].split()
    return [Term.read(part) for part in parts]


def _tables(state: State) -> dict[str, Table[Ticket] | Table[User] | Table[Organization]]:
    store = state.zendesk
    return {"ticket": store.tickets, "user": store.users, "organization": store.organizations}


def _hits(state: State, terms: list[Term], kinds: tuple[str, ...]) -> Iterator[Hit]:
    """What the query finds, type by type in the order of ids."""
    newest, tables = state.now - state.settings.search_lag, _tables(state)
    for kind in kinds:
        for row in tables[kind]:
            gone = getattr(row, "status", "") == "deleted" or not getattr(row, "active", True)
            if gone or (state.settings.search_lag and parse_instant(row.updated_at) > newest):
                continue
            if all(term.fits(kind, row) for term in terms):
                yield kind, row.id


def _kinds(terms: list[Term]) -> tuple[tuple[str, ...], list[Term]]:
    wanted = [term.value.lower() for term in terms if term.field == "type" and not term.negated]
    rest = [term for term in terms if term.field != "type"]
    return tuple(kind for kind in TYPES if not wanted or kind in wanted), rest


def _encoded(state: State, hit: Hit) -> bytes:
    kind, row_id = hit
    return _tables(state)[kind].encoded(row_id)[:-1] + b',"result_type":"' + kind.encode() + b'"}'


def _search(state: State, call: Call) -> Reply:
    """Beyond 1,000 results it is 422, although the tenth page of a hundred still names a next one."""
    kinds, terms = _kinds(_terms(call))
    hits = _sorted(state, call, list(_hits(state, terms, kinds)))
    size = min(max(number(call, "per_page", 100), 1), 100)
    page = max(number(call, "page", 1), 1)
    if page * size > MOST:
        raise _invalid("Invalid search: Requested response size was greater than Search Response Limits")
    start = (page - 1) * size
    more = start + size < len(hits)
    rest = {
        "facets": None,
        "next_page": link(call, {"page": str(page + 1), "per_page": str(size)}) if more else None,
        "previous_page": link(call, {"page": str(page - 1), "per_page": str(size)}) if page > 1 else None,
        "count": len(hits),
    }
    return joined("results", [_encoded(state, hit) for hit in hits[start : start + size]], rest)


def _sorted(state: State, call: Call, hits: list[Hit]) -> list[Hit]:
    """In the order asked for; without one there is no promise, and it is that of types and ids."""
    asked = call.query.get("sort_by")
    if not asked:
        return hits
    if asked not in ("created_at", "updated_at", "status", "priority", "ticket_type"):
        raise _invalid("Invalid search: sort_by is not valid")
    tables, name = _tables(state), "type" if asked == "ticket_type" else asked

    def key(hit: Hit) -> str:
        return str(getattr(tables[hit[0]].rows[hit[1]], name, None) or "")

    return sorted(hits, key=key, reverse=call.query.get("sort_order", "desc") == "desc")


def _count(state: State, call: Call) -> Reply:
    kinds, terms = _kinds(_terms(call))
    return reply_json({"count": sum(1 for _ in _hits(state, terms, kinds))})


def _export(state: State, call: Call) -> Reply:
    """Every hit of one type, in the order of its making, by a cursor that lives an hour.

    The query may repeat the type, as zenpy's does, but not name another.
    """
    kind = call.query.get("filter[type]", "")
    kinds, terms = _kinds(_terms(call))
    if kind not in kinds:
        raise _invalid("Invalid search: filter[type] must name one type, and the query no other")
    size = number(call, "page[size]", 100)
    if not 1 <= size <= MOST:
        raise bad_request("page[size] must lie between 1 and 1000")
    behind = _read_cursor(state, call.query["page[after]"]) if call.query.get("page[after]") else ("", 0)
    rows = _tables(state)[kind].rows
    places = sorted((rows[key].created_at, key) for _, key in _hits(state, terms, (kind,)))
    found = [place for place in places if place > behind][: size + 1]
    page, more = found[:size], len(found) > size
    after = _write_cursor(state, page[-1]) if page else None
    following = link(call, {"page[size]": str(size), "page[after]": after or ""}) if more else None
    rest = {
        "facets": None,
        "meta": {"has_more": more, "after_cursor": after, "before_cursor": None},
        "links": {"prev": None, "next": following},
    }
    return joined("results", [_encoded(state, (kind, key)) for _, key in page], rest)


def _write_cursor(state: State, place: tuple[str, int]) -> str:
    return base64.urlsafe_b64encode(f"{state.now}|{place[0]}|{place[1]}".encode()).decode()


def _read_cursor(state: State, text: str) -> tuple[str, int]:
    try:
        made, created, row_id = base64.urlsafe_b64decode(text).decode().split("|")
        place, age = (created, int(row_id)), state.now - float(made)
    except (ValueError, binascii.Error):
        place, age = ("", 0), CURSOR_LIFE
    if age >= CURSOR_LIFE:
        error = {"code": "InvalidPaginationParameter", "title": "page[after] is invalid or has expired"}
        raise refuse(400, {"errors": [error]})
    return place


ROUTES = [
    ("GET", "/api/v2/search", _search),
    ("GET", "/api/v2/search/count", _count),
    ("GET", "/api/v2/search/export", _export),
]
