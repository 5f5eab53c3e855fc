"""The simulated QAD Adaptive ERP: logins, the browse list, one customer by key, workspaces, permissions.

It is served under `/clouderp` and, the same, under `/qad-central`. It fails as quietly as the original: an unknown
browse, a missing `page` or `pageAction`, or an unknown workspace is HTTP 200 with no rows, and a wrong
`pageAction` on a later page repeats the first one. How sites differ beyond that is in `qad_oddities`.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from . import qad_oddities as oddities
from .qad_store import SAMPLE_DAY, SAMPLES, RowKey, day_of, second_of
from .web import Call, Handler, Refusal, Reply, encode, joined, refuse, reply_json

if TYPE_CHECKING:
    from .qad_store import Customer
    from .state import State

USER, PASSWORD, CLIENT_ID = "svc_zendesk", "sandbox", "sandbox"
FIELDS = "urn:browse:custom:lookupBrowseFields"
APPS = "urn:browse:be:com.qad.qra.app.IApp"
SESSIONS = 32


class QadAccess:
    """Logins and open browse sessions."""

    def __init__(self) -> None:
        self.access: dict[str, float] = {}
        self.refresh: set[str] = set()
        self.cookies: dict[str, float] = {}
        self.sessions: OrderedDict[Any, list[RowKey]] = OrderedDict()

    def grant(self, now: float, ttl: int) -> dict[str, Any]:
        access, refresh = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self.access[access] = now + ttl
        self.refresh.add(refresh)
        return {"access_token": access, "token_type": "bearer", "refresh_token": refresh, "expires_in": ttl}

    def rows(self, key: Any, find: Any) -> list[RowKey]:
        """The rows of one read, found once and then kept for its later pages."""
        known: list[RowKey] | None = self.sessions.get(key)
        if known is None:
            known = self.sessions[key] = find()
            if len(self.sessions) > SESSIONS:
                self.sessions.popitem(last=False)
        return known


def _token(state: State, call: Call) -> Reply:
    form = {**dict(call.query), **dict(parse_qsl(call.raw.decode(errors="replace"), keep_blank_values=True))}
    known = form.get("client_id") == CLIENT_ID
    if form.get("grant_type") == "password":
        known = known and form.get("username") == USER and form.get("password") == PASSWORD
    elif form.get("grant_type") == "refresh_token":
        known = known and form.get("refresh_token") in state.qad_access.refresh
        state.qad_access.refresh.discard(form.get("refresh_token", ""))
    else:
        raise refuse(400, {"error": "unsupported_grant_type", "error_description": "Unsupported grant type"})
    if not known:
        raise refuse(401, {"error": "invalid_grant", "error_description": "Bad credentials"})
    return reply_json(state.qad_access.grant(state.now, state.settings.qad_token_ttl))


def _cookie_login(state: State, call: Call) -> Reply:
    """The login of QAD's own tools: names in JSON, a session id that then goes along as a cookie."""
    body = call.json()
    if (body.get("username"), body.get("password")) != (USER, PASSWORD):
        raise refuse(401, {"error": "invalid_grant", "error_description": "Bad credentials"})
    session_id = secrets.token_hex(16).upper()
    state.qad_access.cookies[session_id] = state.now + state.settings.qad_token_ttl
    return reply_json({"sessionId": session_id}, Set_Cookie=f"JSESSIONID={session_id}; Path=/; HttpOnly")


def _browser_login(_state: State, call: Call) -> Reply:
    """The login of browsers: 302 in any case, to the start page or back to the login."""
    known = (call.query.get("username"), call.query.get("password")) == (USER, PASSWORD)
    return Reply(302, b"", "text/html", {"Location": "/clouderp/" if known else "/clouderp/login.jsp?error=1"})


def _session_in(call: Call) -> str | None:
    cookies = [part.strip().partition("=") for part in call.headers.get("cookie", "").split(";")]
    return next((value for name, _, value in cookies if name == "JSESSIONID"), None)


def guard(state: State, call: Call, handler: Handler) -> Reply:
    """Every call needs a live bearer token, the user's name and password, or the cookie of a session."""
    if oddities.missing_endpoint(state, call.path):
        raise refuse(404, {"error": "Not Found"})
    kind, _, value = call.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and state.qad_access.access.get(value.strip(), 0.0) > state.now:
        return oddities.spoilt(state) or handler(state, call)
    if kind.lower() == "basic" and state.settings.qad_basic and _basic(value) == f"{USER}:{PASSWORD}":
        return oddities.spoilt(state) or handler(state, call)
    session = _session_in(call)
    if session is not None and not kind:
        if state.qad_access.cookies.get(session, 0.0) > state.now:
            return oddities.spoilt(state) or handler(state, call)
        # To a lapsed session QAD answers as to a browser.
        return Reply(302, b"", "text/html", {"Location": "/clouderp/login.jsp"})
    raise _unauthorized()


def _unauthorized() -> Refusal:
    body = {"error": "invalid_token", "error_description": "Access token expired or invalid"}
    return refuse(401, body, WWW_Authenticate='Bearer realm="qad"')


def _basic(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _empty() -> Reply:
    return reply_json({"data": [], "auxillaryData": {"HasMoreParams": "false"}})


def _browse(state: State, call: Call) -> Reply:
    query = call.query
    browse = query.get("browseId", "")
    if browse == APPS:
        apps = [{"app.appURI": f"urn:app:com.qad.{name}", "app.name": name} for name in ("qracore", "base", "erp")]
        return reply_json({"data": apps, "auxillaryData": {"HasMoreParams": "false"}})
    page, size, action = query.get("page", ""), query.get("pageSize", "25"), query.get("pageAction", "")
    if not page.isdigit() or not size.isdigit() or int(page) < 1 or int(size) < 1 or not action:
        return _empty()
    if browse == FIELDS:
        return _fields(state, call)
    kind = oddities.kind_of(state, browse)
    domain = _domain(state, call)
    if kind is None or domain is None:
        return _empty()
    return _page(state, call, kind, domain)


def _page(state: State, call: Call, kind: str, domain: str) -> Reply:
    query = call.query
    size = int(query.get("pageSize", "25"))
    first = oddities.is_first(state, call)
    filters = tuple(query.getlist("filter"))
    call_id = query.get("callId", "")
    if first and call_id:
        state.qad_access.sessions.pop((call_id, kind, domain, filters), None)
    version = 0 if call_id else state.qad.version
    session = (call_id, kind, domain, filters) if call_id else (version, kind, domain, filters)
    asked = list(filters) if state.settings.qad_filters else []
    keys = state.qad_access.rows(session, lambda: _found(state, kind, domain, asked))
    start = 0 if first else (int(query["page"]) - 1) * size
    shown = [key for key in keys[start : start + size] if state.qad.exists(key)]
    if oddities.is_usual(state):
        rows = [state.qad.encoded(kind, key) for key in shown]
    else:
        rows = [encode(oddities.spelt(state, state.qad.row(kind, key))) for key in shown]
    return joined("data", rows, oddities.told(state, start + size < len(keys)))


def _domain(state: State, call: Call) -> str | None:
    """The domain that the call's workspace stands for; the user's default without one, None when it is unknown."""
    name = call.headers.get("x-qad-workspace-id")
    domains = state.qad.domains
    if name is None:
        return domains[0]
    return next((domain for domain in domains if name == workspace(domain)), None)


def workspace(domain: str) -> str:
    """The name of a domain's workspace: `<domain>_<entity>`."""
    return f"{domain}_{domain}CO"


def _found(state: State, kind: str, domain: str, filters: list[str]) -> list[RowKey]:
    store = state.qad
    keys = store.keys(kind)
    if len(store.domains) > 1:
        keys = [key for key in keys if store.domain_of(key) == domain]
    for text in filters:
        keys = [key for key in keys if _passes(oddities.spelt(state, store.row(kind, key)), text.split(","))]
    return list(keys)


def _passes(row: dict[str, Any], parts: list[str]) -> bool:
    """One filter: `field,op,value,literal`, or `field,rg,from,literal,to,literal`."""
    if len(parts) < 3 or parts[0] not in row:
        return False
    value = _comparable(row[parts[0]])
    low = _comparable(parts[2])
    if parts[1] == "rg":
        return low <= value <= _comparable(parts[4] if len(parts) > 4 else "")
    text, part = str(row[parts[0]] or "").casefold(), parts[2].casefold()
    tests = {
        "eq": value == low,
        "cn": part in text,
        "sw": text.startswith(part),
        "ew": text.endswith(part),
        "gt": value > low,
        "ge": value >= low,
        "lt": value < low,
        "le": value <= low,
    }
    return tests.get(parts[1], False)


def _comparable(value: Any) -> str:
    """Values as text that sorts as they do; QAD compares without regard to case."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, str) and value.isascii() and value.isdigit()):
        return f"{int(value):020d}"
    return str(value or "").casefold()


def _fields(state: State, call: Call) -> Reply:
    """The columns of the browses whose ids pass the filters; none where no filter names one."""
    filters = [text.split(",") for text in call.query.getlist("filter")]
    named = [one for one in oddities.browse_ids(state) if all(_passes({"browseURI": one}, parts) for parts in filters)]
    kinds = {browse: oddities.kind_of(state, browse) for browse in named if filters}
    rows = [row for browse, kind in kinds.items() if kind is not None for row in _columns(state, kind, browse)]
    size, page = int(call.query.get("pageSize", "25")), int(call.query["page"])
    start = 0 if oddities.is_first(state, call) else (page - 1) * size
    return reply_json({"data": rows[start : start + size], **oddities.told(state, start + size < len(rows))})


def _columns(state: State, kind: str, browse: str) -> list[dict[str, str]]:
    """A browse's columns, the same whether it has rows or not."""
    kinds = {bool: "logical", int: "integer"}
    return [
        {
            "fieldLabel": name.rpartition(".")[2],
            "field": name,
            "fieldDataType": "date" if value == SAMPLE_DAY else kinds.get(type(value), "character"),
            "browseURI": browse,
        }
        for name, value in oddities.spelt(state, SAMPLES[kind]).items()
    ]


def _customer(state: State, call: Call) -> Reply:
    row = state.qad.customers.get(call.query.get("customerCode", ""))
    found = row is not None and call.query.get("sharedSetCode", row.shared_set) == row.shared_set
    rows = [entity(row)] if row is not None and found and "viewUri" in call.query else []
    return reply_json({"data": {"supplementaryMessages": [], "customerV2s": rows}})


def entity(row: Customer) -> dict[str, Any]:
    """A customer as its keyed endpoint shows it."""
    uri = f"urn:be:com.qad.base.customer.ICustomerV2:{row.shared_set}.{row.code}"
    return {
        "uri": uri,
        "instanceURI": uri,
        "sharedSetCode": row.shared_set,
        "customerCode": row.code,
        "businessRelationCode": row.business_relation,
        "businessRelationName": row.name,
        "addressSearchName": row.search_name,
        "street1": row.street,
        "city": row.city,
        "zipCode": row.zip,
        "countryCode": row.country,
        "EMail": row.email,
        "telephone": row.phone,
        "isActive": row.active,
        "customerTypeCode": row.type,
        "currencyCode": row.currency,
        "languageCode": row.language,
        "lastModifiedDate": day_of(row.modified)[:10],
        "lastModifiedTime": second_of(row.modified),
        "lastModifiedUser": "mfg",
        "customerContactV2s": [],
    }


def _workspaces(state: State, _call: Call) -> Reply:
    rows = [
        {"key": str(index + 1), "name": workspace(domain), "description": f"{domain} company", "default": index == 0}
        for index, domain in enumerate(state.qad.domains)
    ]
    return reply_json({"qad-qracore": rows})


def routes_under(base: str) -> tuple[list[tuple[str, str, Handler]], list[tuple[str, str, Handler]]]:
    """The open and the guarded routes below a context root."""
    opened: list[tuple[str, str, Handler]] = [
        ("POST", f"{base}/oauth/token", _token),
        ("POST", f"{base}/api/login", _cookie_login),
        ("POST", f"{base}/login", _browser_login),
    ]
    guarded: list[tuple[str, str, Handler]] = [
        ("GET", f"{base}/api/qracore/browses", _browse),
        ("GET", f"{base}/api/erp/customerV2s", _customer),
        ("GET", f"{base}/api/webshell/workspaces", _workspaces),
        ("GET", f"{base}/api/qracore/permissionState", oddities.permission),
    ]
    paths = [path for _, path, _ in (*opened, *guarded)]
    document = ("GET", f"{base}/api/openapi.json", lambda state, _call: oddities.api_document(state, base, paths))
    return opened, [*guarded, document]
