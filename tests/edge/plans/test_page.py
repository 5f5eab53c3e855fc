"""The page of plans: who may see and approve what, what it says, and what must not work."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

import pytest
import structlog
from airflow.models import DagRun
from airflow.sdk import DAG
from airflow.utils.session import create_session
from sqlalchemy import select

from airflow_provider_qadzd.errors import UnsafePlan
from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sync.draft import Plan
from airflow_provider_qadzd.sync.plan import Brake
from tests.edge.connect.conftest import OWN, Browser, text_of
from tests.edge.plans.conftest import planned

pytestmark = pytest.mark.usefixtures("airflow_database")
PAGE = "/qadzd/plans"


def get(browser: Browser, path: str = "", status: int = 200) -> str:
    """A page, with its tags."""
    answer = browser.client.get(f"{PAGE}{path}")
    assert answer.status_code == status, answer.text
    return answer.text


def approve(browser: Browser, plan: Plan, slip: str | None = None, **form: str) -> Any:
    """Press Approve."""
    if slip is None:
        slip = slip_in(get(browser, f"/{plan.plan_id}"))
    return browser.client.post(f"{PAGE}/{plan.plan_id}/approve", data={"slip": slip, **form})


def slip_in(page: str) -> str:
    """What the page's form carries."""
    return re.findall(r'name="slip" value="([^"]+)"', page)[0]


def runs_of(plan: Plan) -> list[DagRun]:
    """The runs that were triggered for a plan."""
    with create_session() as session:
        found = session.scalars(select(DagRun).where(DagRun.dag_id == "qadzd_sync_accounts")).all()
        return [run for run in found if (run.conf or {}).get("plan_id") == plan.plan_id and run.state == "queued"]


@pytest.fixture(autouse=True)
def no_runs(airflow_database: None) -> None:
    """Runs of other tests are gone."""
    with create_session() as session:
        for run in session.scalars(select(DagRun).where(DagRun.dag_id == "qadzd_sync_accounts")).all():
            session.delete(run)


def test_the_list_and_a_plan_say_what_would_happen(app: object, plan: Plan) -> None:
    """Counts by kind and outcome, the cost, the state, grouped reasons, and every field of a change."""
    anna = Browser(app, "anna")
    assert "waits for a review" in text_of(get(anna))
    read = text_of(get(anna, f"/{plan.plan_id}"))
    for part in (
        f"{plan.changes:,} changes", "Zendesk calls", "Organizations", "Memberships", "set aside", "Within the brake",
        "the email is an agent's", "Approve", "qad_city",
    ):  # fmt: skip
        assert part in read, part


def test_changes_are_paged_and_found(app: object, plan: Plan) -> None:
    """Next pages show the rest, each change once; a kind and a part of a name narrow them down."""
    anna, seen, path = Browser(app, "anna"), [], f"/{plan.plan_id}"
    while path:
        page = get(anna, path)
        seen += re.findall(r'<div class="quiet">(\w+ [^<]+)</div></td>\s*<td>\s*(?:in <strong>([^<]+))?', page)
        found = re.findall(rf'href="{PAGE}(/[^"]+after=\d+)#changes"', page)
        path = found[0].replace("&amp;", "&") if found else ""
    assert len(seen) == len(set(seen)) == plan.changes
    one = get(anna, f"/{plan.plan_id}?kind=organization&search=c0000204")
    assert re.findall(r'<div class="quiet">(organization [^<]+)</div>', one) == ["organization C0000204"]
    assert "Nothing is found" in get(anna, f"/{plan.plan_id}?search=%25%25")
    aside = get(anna, f"/{plan.plan_id}?aside=email_of_agent&kind=user")
    assert "email_of_agent" in text_of(aside)


@pytest.mark.parametrize(
    ("user", "seen", "approved"), [("", 401, 401), ("vera", 200, 403), ("olga", 200, 303), ("anna", 200, 303)],
    ids=["anonymous", "viewer", "op", "admin"],
)  # fmt: skip
def test_who_may_see_and_who_may_approve(
    user: str, seen: int, approved: int, app: object, plan: Plan, dags: dict[str, DAG]
) -> None:
    """Whoever may read the DAG sees its plans; whoever may trigger it approves them, and nobody else has the button."""
    browser = Browser(app, user)
    page = get(browser, f"/{plan.plan_id}", seen)
    get(browser, "", seen)
    slip = slip_in(page) if approved == 303 else "none"
    assert ('name="slip"' in page) is (approved == 303)
    assert approve(browser, plan, slip).status_code == approved
    assert len(runs_of(plan)) == (approved == 303)


def test_approve_triggers_a_run_for_this_plan(
    app: object, plan: Plan, dags: dict[str, DAG], ledger_file: sqlite3.Connection
) -> None:
    """The run is told the plan and the mode, the ledger who approved it, and the page says so, once."""
    anna = Browser(app, "anna")
    answer = approve(anna, plan, skip_moved="1")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{PAGE}/{plan.plan_id}")
    (run,) = runs_of(plan)
    assert run.conf == {"plan_id": plan.plan_id, "mode": "apply_reviewed", "skip_moved": True}
    assert run.triggering_user_name == "anna"
    read = text_of(get(anna, f"/{plan.plan_id}"))
    assert f"Plan {plan.plan_id} is approved; run {run.run_id}" in read
    assert "approved by anna" in read
    assert "is approved; run" not in text_of(get(anna, f"/{plan.plan_id}"))
    assert ledger_file.execute("SELECT plan_state, approved_by FROM qadzd_plan").fetchall() == [("approved", "anna")]


def test_a_superseded_plan_is_refused_in_words(app: object, plan: Plan, dags: dict[str, DAG]) -> None:
    """Approved too late, the page names the newer plan and triggers nothing."""
    anna = Browser(app, "anna")
    slip = slip_in(get(anna, f"/{plan.plan_id}"))
    newer = planned("dry_run")
    approve(anna, plan, slip)
    read = text_of(get(anna, f"/{plan.plan_id}"))
    assert f"superseded by plan {newer.plan_id}" in read
    assert f"There is a newer plan: plan {newer.plan_id}" in read
    assert runs_of(plan) == []


def test_a_plan_that_the_brake_stopped_is_shown(app: object, sandbox: Sandbox) -> None:
    """The page says which brake, and has no button."""
    planned("apply")
    with pytest.raises(UnsafePlan):
        planned("approve", Unforgiving(0.0, 0))
    anna = Browser(app, "anna")
    number = int(re.findall(rf'href="{PAGE}/(\d+)"', get(anna))[0])
    page = get(anna, f"/{number}")
    assert "the brake allows 0" in text_of(page)
    assert 'name="slip"' not in page


class Unforgiving(Brake):
    """A brake that stops everything, so that a first plan is stopped."""

    def check(self, what: str, count: int, linked: int) -> None:
        raise UnsafePlan(f"The plan has {count} {what} of {linked} linked records; the brake allows 0.")


@pytest.mark.parametrize("slip", ["", "garbage", "bert's", "another plan's"])
def test_a_form_that_we_did_not_write_is_refused(slip: str, app: object, plan: Plan, dags: dict[str, DAG]) -> None:
    """Without the sealed slip of this plan's page, as this user was shown it, nothing is approved."""
    anna = Browser(app, "anna")
    if slip == "bert's":
        slip = slip_in(get(Browser(app, "bert"), f"/{plan.plan_id}"))
    if slip == "another plan's":
        slip, plan = slip_in(get(anna, f"/{plan.plan_id}")), renamed_plan(plan)
    assert approve(anna, plan, slip).status_code == 400
    assert runs_of(plan) == []


def renamed_plan(plan: Plan) -> Plan:
    """A later plan that differs."""
    planned("dry_run")
    found = planned("approve")
    assert found.plan_id != plan.plan_id
    return found


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_form_from_another_site_is_refused(headers: dict[str, str], app: object, plan: Plan) -> None:
    """Even with a genuine slip, what the browser says of the sender counts; and a link approves nothing."""
    anna = Browser(app, "anna")
    slip = slip_in(get(anna, f"/{plan.plan_id}"))
    path = f"{PAGE}/{plan.plan_id}/approve"
    assert anna.client.post(path, data={"slip": slip}, headers=headers).status_code == 400
    assert anna.client.get(path).status_code in (404, 405)
    assert runs_of(plan) == []


@pytest.mark.parametrize(
    "query", ["?after=x", "?after=99999999999999999999", "?kind=nobody", "?search=<script>alert(1)</script>", "?a=%ff"]
)
def test_any_query_is_answered(query: str, app: object, plan: Plan) -> None:
    """Whatever stands in the address, the page is one, and nothing of it becomes markup."""
    page = get(Browser(app, "anna"), f"/{plan.plan_id}{query}")
    assert "<script" not in page


def test_an_unknown_plan_is_told(app: object, plan: Plan) -> None:
    """A number that no plan has is said in words."""
    assert "There is no plan 999" in text_of(get(Browser(app, "anna"), "/999", 400))


def test_headers_keep_it_here_and_a_search_is_not_logged(app: object, plan: Plan) -> None:
    """No answer is cached, framed or told to another site, no page runs a script, and no log has a searched name."""
    anna = Browser(app, "anna")
    with structlog.testing.capture_logs() as access:
        answer = anna.client.get(f"{PAGE}/{plan.plan_id}?search=Findme")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-frame-options"] == "DENY"
    assert "script" not in answer.headers["content-security-policy"]
    assert "Findme" not in repr(access)


def test_the_link_is_in_the_menu(app: object, plan: Plan) -> None:
    """Airflow's interface is told of the page."""
    plugins = Browser(app, "anna").client.get("/api/v2/plugins").json()["plugins"]
    views = next(one["external_views"] for one in plugins if one["name"] == "qadzd")
    assert ("QAD sync plans", PAGE) in [(view["name"], view["href"]) for view in views]
    assert OWN
