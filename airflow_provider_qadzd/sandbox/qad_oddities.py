"""How QAD's REST interface differs from site to site, and how it fails: each behaviour is a setting of the sandbox.

The settings are `qad_...` of the sandbox's; `manual` has a line for each. With all of them at rest, the sandbox is a
healthy cloud instance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .web import Call, Refusal, Reply, encode, refuse, reply_json

if TYPE_CHECKING:
    from .state import State

CUSTOMERS = "urn:browse:bebrowse:com.qad.erp.base.customerV2s"
CLASSIC = "urn:browse:mfg:cm010"
CONTACTS = "urn:browse:mfg:cm803"
BROWSES = {CUSTOMERS: "entity", CLASSIC: "classic", CONTACTS: "contacts"}

LOGIN_PAGE = (
    "<!DOCTYPE html><html><body><form action='login'><input type='password' name='password'></form></body></html>"
)
MAINTENANCE = "<!DOCTYPE html><html><body><h1>Down for maintenance</h1></body></html>"
BUSINESS_ERROR = {"fieldName": "customerCode", "fieldValue": "", "code": "47", "message": "...", "severity": 3}

CHOICES: dict[str, tuple[str | None, ...]] = {
    "qad_answers": (
        None, "html", "login_page", "redirect", "redirect_elsewhere", "submit_failed", "no_data", "forbidden", "busy",
        "away", "broken",
    ),
    "qad_paging": ("action", "number", "repeats"),
    "qad_has_more": ("text", "boolean", "elsewhere", "absent"),
    "qad_spelling": ("usual", "upper", "bare", "prefixed"),
}  # fmt: skip


def spoilt(state: State) -> Reply | None:
    """The answer that every call gets instead of its own, None where all is well."""
    html = "text/html; charset=UTF-8"
    match state.settings.qad_answers:
        case "html":
            return Reply(200, MAINTENANCE.encode(), html)
        case "login_page":
            return Reply(200, LOGIN_PAGE.encode(), html)
        case "redirect":
            return Reply(302, b"", html, {"Location": "/clouderp/login.jsp?error=1"})
        case "redirect_elsewhere":
            return Reply(302, b"", html, {"Location": "https://elsewhere.invalid/clouderp/"})
        case "submit_failed":
            return reply_json({"submitResult": {"success": False, "errorSeverity": 3, "errors": [BUSINESS_ERROR]}})
        case "no_data":
            return reply_json({"auxillaryData": {}})
        case "forbidden":
            raise forbidden()
        case "busy":
            return reply_json({}, 429)
        case "away":
            return reply_json({}, 503, Retry_After="600")
        case "broken":
            return Reply(500, MAINTENANCE.encode(), html)
        case _:
            return None


def forbidden() -> Refusal:
    """As a gateway refuses: bare errors."""
    return refuse(403, {"errors": [{"severity": 1, "code": "403", "message": "Access is denied", "fieldName": ""}]})


def kind_of(state: State, browse_id: str) -> str | None:
    """Which rows a browse has at this site; None for a browse that there is not, or that the user may not see."""
    settings = state.settings
    if browse_id in settings.qad_hidden_browses:
        return None
    own = {settings.qad_browses.get(known, known): kind for known, kind in BROWSES.items()}
    return own.get(browse_id)


def browse_ids(state: State) -> list[str]:
    """The browses that the user may see."""
    return [state.settings.qad_browses.get(known, known) for known in BROWSES]


def is_usual(state: State) -> bool:
    """Whether rows are as they are kept, and so need not be made anew."""
    return state.settings.qad_spelling == "usual" and not state.settings.qad_without


def spelt(state: State, row: dict[str, Any]) -> dict[str, Any]:
    """A row with its columns as this site spells them, without those that it does not have."""
    left_out = state.settings.qad_without
    return {_name(state, name): value for name, value in row.items() if name not in left_out}


def _name(state: State, name: str) -> str:
    match state.settings.qad_spelling:
        case "upper":
            return name.upper()
        case "bare":
            return name.rpartition(".")[2]
        case "prefixed":
            return f"t_{name}"
        case _:
            return name


def is_first(state: State, call: Call) -> bool:
    """Whether a call gets the first page, as it asks, or because this site does not page so."""
    page, action = int(call.query["page"]), call.query["pageAction"]
    match state.settings.qad_paging:
        case "number":
            return page == 1 or action != "first"
        case "repeats":
            return True
        case _:
            return page == 1 or action != "next"


def told(state: State, more: bool) -> dict[str, Any]:
    """Whether there is more, where and how this site says so."""
    match state.settings.qad_has_more:
        case "boolean":
            return {"auxillaryData": {"HasMoreParams": more}}
        case "elsewhere":
            return {"paging": {"moreRows": "true" if more else "false"}}
        case "absent":
            return {}
        case _:
            return {"auxillaryData": {"HasMoreParams": "true" if more else "false"}}


def permission(state: State, call: Call) -> Reply:
    """Whether the user may do something with something."""
    uri = call.query.get("uri", "")
    return reply_json({"data": {"hasPermission": uri not in state.settings.qad_hidden_browses}})


def missing_endpoint(state: State, path: str) -> bool:
    """Whether this site does not have an endpoint."""
    return any(path.endswith(one) for one in state.settings.qad_missing)


def api_document(state: State, base: str, paths: list[str]) -> Reply:
    """What the instance says of its own API, as an OpenAPI document: the paths that it has, below its base."""
    there = [path.removeprefix(base) for path in paths if not missing_endpoint(state, path)]
    document = {"openapi": "3.0.1", "servers": [{"url": base}], "paths": {path: {"get": {}} for path in there}}
    return Reply(200, encode(document))
