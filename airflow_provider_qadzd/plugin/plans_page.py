"""The page of plans in Airflow's api-server: what a run would change, for whoever may read the flow's DAG.

Approving is for whoever may trigger that DAG, by a form that carries a sealed slip. A search may hold a person's name:
the query is taken off the request before anything is done, as Airflow's access log writes down what is left of it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user
from airflow.configuration import conf
from airflow.models import DagModel
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from airflow_provider_qadzd import config
from airflow_provider_qadzd.errors import FixFirst, QadzdError
from airflow_provider_qadzd.ledger import Ledger, plans
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
from airflow_provider_qadzd.reviewing import approve_and_trigger, dag_of
from airflow_provider_qadzd.sync.showing import (
    KINDS,
    STATES,
    action_of,
    differences,
    in_short,
    reason_in_words,
    shown,
)

log = logging.getLogger(__name__)

PER_PAGE = 50
_TITLE = "QAD sync plans"
_RESULT = "qadzd_plan"
_RESULT_LIFE = 120


@dataclass(frozen=True, slots=True)
class Visit:
    """One request, as far as a page needs it. `home` is the list's path as the browser sees it."""

    user: BaseUser
    home: str
    plan_id: int
    secure: bool
    query: dict[str, str] = field(repr=False)
    form: dict[str, str] = field(repr=False)
    result: str = field(repr=False)

    @property
    def root(self) -> str:
        """Where Airflow itself is."""
        return self.home.removesuffix("/qadzd/plans")

    def asked(self, name: str) -> str:
        """One value of the query, empty if it is not there."""
        return self.query.get(name, "")

    def number(self, name: str) -> int:
        """One value of the query as a number, 0 if it is none."""
        text = self.asked(name)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


Page = Callable[[Visit], Response]


def plans_routes() -> list[Route]:
    """The list, one plan, and the form that approves it."""
    return [
        Route("/plans", _behind_login(_list), methods=["GET"]),
        Route("/plans/{plan_id:int}", _behind_login(_one), methods=["GET"]),
        Route("/plans/{plan_id:int}/approve", _behind_login(_approve), methods=["POST"]),
    ]


# -- the pages ---------------------------------------------------------------------------------------------------------


def _list(visit: Visit) -> Response:
    """The newest plans of the flows that this user may see."""
    ledger, empty = config.open_ledger(), visit.asked("all") == "1"
    readable = [one.name for one in config.flows() if _may(visit.user, "GET", one.name)]
    before = visit.number("before") or None
    rows = plans.recent(ledger, readable, PER_PAGE + 1, before=before, empty=empty)
    more = _link(visit.home, before=rows[PER_PAGE - 1].plan_id, all=visit.asked("all")) if len(rows) > PER_PAGE else ""
    return html(
        200, "plans.html", title=_TITLE, home=visit.home, rows=rows[:PER_PAGE], states=STATES, tones=_TONES, more=more,
        empty=empty, flows=readable, minute=_minute,
    )  # fmt: skip


_TONES = {"stopped": "bad", "waiting": "main", "approved": "good", "applied": "good", "going": "good"}


def _one(visit: Visit) -> Response:
    """One plan: the whole on top, then its changes, or who is set aside for a reason."""
    ledger = config.open_ledger()
    row = plans.plan_at(ledger, visit.plan_id)
    aside = visit.asked("aside")
    listed = _asides(visit, ledger, row) if aside else _changes(visit, ledger, row)
    slips = Slips(config.vault())
    result = slips.read(visit.result, "plan result", str(visit.user.get_id()), _RESULT_LIFE) if visit.result else None
    may = row.plan_state == "waiting" and _may(visit.user, "POST", row.flow_name)
    slip = slips.write("plan form", str(visit.user.get_id()), plan=str(row.plan_id)) if may else ""
    newer = _newer(ledger, row) if row.plan_state in ("superseded", "stopped", "shown") else None
    answer = html(
        200, "plan.html", title=f"Plan {row.plan_id}", home=visit.home, here=f"{visit.home}/{row.plan_id}",
        plan=shown(ledger, row), row=row, tone=_TONES.get(row.plan_state, "plain"), kinds=KINDS, aside=aside,
        kind=visit.asked("kind"), action=visit.asked("action"), search=visit.asked("search"), link=_link,
        words=reason_in_words, short=in_short, may_approve=may, newer=newer, run=_run_link(visit, row),
        minute=_minute, result=result, slip=slip, **listed,
    )  # fmt: skip
    if visit.result:
        answer.delete_cookie(_RESULT, path=visit.home)
    return answer


def _changes(visit: Visit, ledger: Ledger, row: plans.PlanRow) -> dict[str, Any]:
    asked = {name: visit.asked(name) for name in ("kind", "action", "search")}
    items = plans.page(ledger, row.plan_id, PER_PAGE + 1, after=visit.number("after"), **asked)
    here = f"{visit.home}/{row.plan_id}"
    more = _link(here, **asked, after=items[PER_PAGE - 1].change_id) if len(items) > PER_PAGE else ""
    listed = [(item, action_of(item).replace("_", " "), differences(item)) for item in items[:PER_PAGE]]
    return {"listed": listed, "asides": [], "more": more}


def _asides(visit: Visit, ledger: Ledger, row: plans.PlanRow) -> dict[str, Any]:
    asked = {"kind": visit.asked("kind"), "search": visit.asked("search")}
    after = (visit.asked("after_kind"), visit.asked("after_key"))
    rows = plans.set_aside_now(ledger, row.flow_id, PER_PAGE + 1, reason=visit.asked("aside"), after=after, **asked)
    more = ""
    if len(rows) > PER_PAGE:
        last = rows[PER_PAGE - 1]
        more = _link(
            f"{visit.home}/{row.plan_id}", aside=visit.asked("aside"), **asked, after_kind=last.kind,
            after_key=last.record_key,
        )  # fmt: skip
    return {"listed": [], "asides": rows[:PER_PAGE], "more": more}


def _approve(visit: Visit) -> Response:
    """Approve the plan, and send the browser back to it, which says what came of it."""
    name, ledger = visit.user.get_name(), config.open_ledger()
    try:
        text = approve_and_trigger(
            ledger, visit.plan_id, name, skip_moved=visit.form.get("skip_moved") == "1", from_page=True
        )
        tone = "good"
    except QadzdError as error:
        text, tone = str(error), "bad"
    log.info("Plans page, %s approves plan %s: %s", name, visit.plan_id, text)
    slip = Slips(config.vault()).write("plan result", str(visit.user.get_id()), text=text[:1000], tone=tone)
    answer = RedirectResponse(f"{visit.home}/{visit.plan_id}", 303)
    answer.set_cookie(
        _RESULT, slip, max_age=_RESULT_LIFE, path=visit.home, secure=visit.secure, httponly=True, samesite="lax"
    )
    return answer


def _newer(ledger: Ledger, row: plans.PlanRow) -> plans.PlanRow | None:
    """The flow's newest plan, if it is another one."""
    newest = plans.latest(ledger, row.flow_name)
    return newest if newest.plan_id > row.plan_id else None


def _run_link(visit: Visit, row: plans.PlanRow) -> str:
    """The page of the run that made it, in Airflow."""
    dag_id, _, run_id = row.run.partition("/")
    return f"{visit.root}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}" if run_id else ""


def _link(path: str, **query: object) -> str:
    given = {name: value for name, value in query.items() if value not in ("", None, 0)}
    return f"{path}?{urlencode(given)}" if given else path


def _minute(moment: str | None) -> str:
    return f"{(moment or '')[:16].replace('T', ' ')} UTC"


# -- who may, and from where -------------------------------------------------------------------------------------------


def _behind_login(page: Page) -> Callable[[Request], Awaitable[Response]]:
    """The page for signed-in users who may see it, and for forms that it wrote itself; errors in words."""

    async def answered(request: Request) -> Response:
        query = request.scope["query_string"].decode("latin-1")
        request.scope["query_string"] = b""
        home = f"{request.scope.get('root_path', '')}/plans"
        try:
            visit = await _visit(request, query, home)
            return guarded(await run_in_threadpool(page, visit))
        except HTTPException as refusal:
            not_allowed = (
                "Airflow does not let you do this.",
                "Ask somebody who may read, or trigger, the flow's DAG.",
            )
            return refused(refusal.status_code, _TITLE, home, not_allowed)
        except QadzdError as error:
            return told(400, _TITLE, home, error.what, error.advice)

    return answered


async def _visit(request: Request, query: str, home: str) -> Visit:
    """What the page needs of the request. HTTPException: 401 not signed in, 403 not allowed or not our form."""
    try:
        user = await get_user(request, None, await bearer_scheme(request))
    except HTTPException:
        raise HTTPException(401) from None
    plan_id, posts = int(request.path_params.get("plan_id", 0)), request.method == "POST"
    if not await run_in_threadpool(_may_visit, user, plan_id, "POST" if posts else "GET"):
        raise HTTPException(403)
    form = await form_of(request) if posts else {}
    if posts:
        slips = Slips(await run_in_threadpool(config.vault))
        slip = slips.read(form.get("slip", ""), "plan form", str(user.get_id()), FORM_LIFE)
        if slip != {"plan": str(plan_id)} or not sent_by_us(request):
            raise FixFirst("This form is too old, or was not sent by the page of this plan.", advice="Open it anew.")
    try:
        given = {name: values[0] for name, values in parse_qs(query, max_num_fields=20).items()}
    except ValueError:
        given = {}
    secure = request.url.scheme == "https" or own_address().scheme == "https"
    return Visit(user, home, plan_id, secure, given, form, request.cookies.get(_RESULT, ""))


def _may_visit(user: BaseUser, plan_id: int, method: ResourceMethod) -> bool:
    """Whether this user may see, or approve, that plan; without a plan, any flow's."""
    if plan_id:
        try:
            flows = [plans.plan_at(config.open_ledger(), plan_id).flow_name]
        except FixFirst:
            flows = []
    else:
        flows = []
    return any(_may(user, method, name) for name in flows or [one.name for one in config.flows()])


def _may(user: BaseUser, method: ResourceMethod, flow_name: str) -> bool:
    """Whether Airflow lets this user read the flow's DAG (GET), or trigger it (POST)."""
    dag_id = dag_of(flow_name)
    team = DagModel.get_team_name(dag_id) if conf.getboolean("core", "multi_team") else None
    return bool(
        get_auth_manager().is_authorized_dag(
            method=method, access_entity=DagAccessEntity.RUN if method == "POST" else None,
            details=DagDetails(id=dag_id, team_name=team), user=user,
        )
    )  # fmt: skip
