"""The Connect page of Airflow's api-server: who may see it, what it answers, and what must not leak from it.

Users sign in to Airflow as ever; the page is for those who may edit connections. Forms carry a sealed slip, as Airflow
adds no protection of its own against requests from other sites. A redirect from Zendesk holds a code in its query: the
query is taken off the request before anything is done, because Airflow's access log writes down what is left of it when
the answer has been sent (seen in 3.3.2), and the browser is sent on at once to an address without it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import ConnectionDetails
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user
from airflow.configuration import conf
from airflow.models.connection import Connection
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from airflow_provider_qadzd import config
from airflow_provider_qadzd.errors import FixFirst, QadzdError
from airflow_provider_qadzd.hooks.zendesk import ZendeskHook
from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.ledger.consents import Consents, UnknownState
from airflow_provider_qadzd.plugin.connect import (
    Standing,
    Told,
    answer_in,
    ask_for_user,
    disconnect,
    finish_for_user,
    standing_of,
)
from airflow_provider_qadzd.plugin.pages import (
    FORM_LIFE,
    form_of,
    guarded,
    html,
    own_address,
    refused,
    sent_by_us,
    told,
)
from airflow_provider_qadzd.plugin.slips import Slips

log = logging.getLogger(__name__)

_TITLE = "Connect Zendesk"
_RESULT = "qadzd_connect"
_RESULT_LIFE = 120
_AT_A_TERMINAL = (
    "Did you start this with `airflow qadzd connect` in a terminal? Then copy the address of this page from the "
    "browser's address bar, and paste it there."
)


@dataclass(frozen=True, slots=True)
class Visit:
    """One request, as far as a page needs it. `home` is the page's path as the browser sees it."""

    user: BaseUser
    home: str
    conn_id: str
    secure: bool
    query: str = field(repr=False)
    form: dict[str, str] = field(repr=False)
    result: str = field(repr=False)

    @property
    def user_id(self) -> str:
        """What tells this Airflow user from every other."""
        return str(self.user.get_id())


Page = Callable[[Visit], Response]


def connect_routes() -> list[Route]:
    """The page, its two forms, and where Zendesk sends the browser back to."""
    return [
        Route("/connect", _behind_login(_show), methods=["GET"]),
        Route("/connect/callback", _behind_login(_come_back), methods=["GET"]),
        Route("/connect/{conn_id:path}/start", _behind_login(_start), methods=["POST"]),
        Route("/connect/{conn_id:path}/disconnect", _behind_login(_take_back), methods=["POST"]),
    ]


# -- the pages ---------------------------------------------------------------------------------------------------------


def _show(visit: Visit) -> Response:
    """Every Zendesk connection of the flows, and what came of the last form."""
    slips = Slips(config.vault())
    ledger = config.open_ledger()
    named = _named_by_flows()
    standings = [standing_of(ZendeskHook(conn_id, ledger), flows) for conn_id, flows in named.items()]
    editable = {conn_id for conn_id in named if _may_edit(visit.user, conn_id)}
    result = slips.read(visit.result, "result", visit.user_id, _RESULT_LIFE) if visit.result else None
    answer = html(
        200, "connect.html", _form_targets(standings),
        title=_TITLE, home=visit.home, user=visit.user.get_name(), standings=standings, editable=editable,
        result=result, slip=slips.write("form", visit.user_id),
    )  # fmt: skip
    if visit.result:
        answer.delete_cookie(_RESULT, path=visit.home)
    return answer


def _start(visit: Visit) -> Response:
    """Send the browser to Zendesk's consent page."""
    hook = _hook(visit.conn_id, config.open_ledger())
    asked = ask_for_user(hook, Consents(hook.ledger, config.vault()), visit.user_id)
    log.info("%s asks for consent for %s.", visit.user.get_name(), hook.where)
    return RedirectResponse(asked.url, 303)


def _come_back(visit: Visit) -> Response:
    """Take Zendesk's answer. What is not the answer to a request of this user's is said here, not on the page."""
    answer = answer_in(visit.query)
    ledger = config.open_ledger()
    pending = Consents(ledger, config.vault()).take(answer.state, visit.user_id)
    if not _may_edit(visit.user, pending.conn_id):
        raise HTTPException(403)
    hook = _hook(pending.conn_id, ledger)
    return _done(visit, lambda: finish_for_user(hook, answer, pending, visit.user.get_name()), pending.conn_id)


def _take_back(visit: Visit) -> Response:
    """Disconnect."""
    hook = _hook(visit.conn_id, config.open_ledger())
    return _done(visit, lambda: disconnect(hook), visit.conn_id)


def _done(visit: Visit, act: Callable[[], Told], conn_id: str) -> Response:
    """Do it, and send the browser on to the page, which says what came of it."""
    try:
        came = act()
    except QadzdError as error:
        came = Told(str(error), "bad")
    log.info("Connect page, %s for connection %s: %s", visit.user.get_name(), conn_id, came.text)
    slip = Slips(config.vault()).write("result", visit.user_id, text=came.text[:1000], tone=came.tone)
    answer = RedirectResponse(visit.home, 303)
    answer.set_cookie(
        _RESULT, slip, max_age=_RESULT_LIFE, path=visit.home, secure=visit.secure, httponly=True, samesite="lax"
    )
    return answer


def _named_by_flows() -> dict[str, tuple[str, ...]]:
    """Each Zendesk connection that a flow names, with the names of its flows."""
    flows = config.flows()
    return {one.zendesk: tuple(other.name for other in flows if other.zendesk == one.zendesk) for one in flows}


def _hook(conn_id: str, ledger: Ledger) -> ZendeskHook:
    if conn_id not in _named_by_flows():
        raise FixFirst("No flow of [qadzd] flows names this connection.", advice="Go back to the Connect page.")
    return ZendeskHook(conn_id, ledger)


# -- who may, and from where -------------------------------------------------------------------------------------------


def _behind_login(page: Page) -> Callable[[Request], Awaitable[Response]]:
    """The page for signed-in users who may edit connections, and for forms that it wrote itself; errors in words."""

    async def answered(request: Request) -> Response:
        query = request.scope["query_string"].decode("latin-1")
        request.scope["query_string"] = b""  # it may hold a code, and is logged by whoever called us
        home = f"{request.scope.get('root_path', '')}/connect"
        hint = _AT_A_TERMINAL if page is _come_back else ""
        try:
            visit = await _visit(request, query, home)
            return guarded(await run_in_threadpool(page, visit))
        except HTTPException as refusal:
            return _refused(refusal.status_code, home, hint)
        except UnknownState as error:
            return _told(400, home, error, hint)
        except QadzdError as error:
            return _told(400, home, error)

    return answered


async def _visit(request: Request, query: str, home: str) -> Visit:
    """What the page needs of the request. HTTPException: 401 not signed in, 403 not allowed or not our form."""
    try:
        user = await get_user(request, None, await bearer_scheme(request))
    except HTTPException:
        raise HTTPException(401) from None  # a cookie that Airflow cannot read is no login either
    conn_id = request.path_params.get("conn_id", "")
    if not await run_in_threadpool(_may_edit, user, conn_id):
        raise HTTPException(403)
    form = await form_of(request) if request.method == "POST" else {}
    secure = request.url.scheme == "https" or own_address().scheme == "https"
    visit = Visit(user, home, conn_id, secure, query, form, request.cookies.get(_RESULT, ""))
    if request.method == "POST":
        slip = Slips(await run_in_threadpool(config.vault)).read(form.get("slip", ""), "form", visit.user_id, FORM_LIFE)
        if slip is None or not sent_by_us(request):
            raise FixFirst("This form is too old, or was not sent by the Connect page.", advice="Open the page anew.")
    return visit


def _may_edit(user: BaseUser, conn_id: str) -> bool:
    """Whether Airflow lets this user edit the connection (any, without an id).

    The same question as `requires_access_connection("PUT")`, which with multi-team takes every body for JSON.
    """
    team = Connection.get_team_name(conn_id) if conn_id and conf.getboolean("core", "multi_team") else None
    details = ConnectionDetails(conn_id=conn_id or None, team_name=team)
    return bool(get_auth_manager().is_authorized_connection(method="PUT", details=details, user=user))


# -- how it looks ------------------------------------------------------------------------------------------------------


def _form_targets(standings: list[Standing]) -> str:
    """Where a form may lead. Chromium holds every redirect after it against this list (seen), also those to a company's
    own sign-in page behind Zendesk's. So any https address has to do; of plain http, a simulation's and our own.
    """
    plain = {f"http://{urlsplit(url).netloc}" for one in standings for url in (one.address, one.redirect_uri)
             if url.startswith("http:")}  # fmt: skip
    return " ".join(["", "https:", *sorted(plain)])


def _told(status: int, home: str, error: QadzdError, hint: str = "") -> Response:
    known = f"[{error.facts}]" if str(error.facts) else ""
    return told(status, _TITLE, home, " ".join(filter(None, (error.what, known))), error.advice, hint)


def _refused(status: int, home: str, hint: str) -> Response:
    not_allowed = ("Airflow does not let you edit this connection.", "Ask somebody who may edit connections.")
    return refused(status, _TITLE, home, not_allowed, hint)
