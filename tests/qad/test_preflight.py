"""The preflight against sites that differ: what is found, what is missing, and that what it proposes works."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.findings import Finding, Report, as_screen
from airflow_provider_qadzd.qad.client import QadClient, QadSettings, connect
from airflow_provider_qadzd.qad.preflight import preflight
from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sandbox.qad_oddities import CLASSIC, CONTACTS, CUSTOMERS
from airflow_provider_qadzd.settings import settings_from
from tests.qad.conftest import Sessions
from tests.qad.replies import FakeClock, MemoryTokens

BROWSES = "GET /clouderp/api/qracore/browses"
Opener = Callable[..., QadClient]


@pytest.fixture
def opened(sandbox: Sandbox, new_session: Sessions) -> Opener:
    """Opens the connection whose extra this is."""

    def make(extra: Mapping[str, Any], root: str = "/clouderp", password: str = "sandbox", url: str = "") -> QadClient:
        settings = settings_from(QadSettings, {"client_id": "sandbox", **extra}, "connection qad_default, extra")
        return connect(
            (url or sandbox.url) + root, "svc_zendesk", password, settings, tokens=MemoryTokens(),
            session=new_session(), clock=FakeClock(), where="connection qad_default",
        )  # fmt: skip

    return make


def by_check(report: Report) -> dict[str, Finding]:
    """The findings by what was checked."""
    return {one.check: one for one in report.findings}


def failing(report: Report) -> dict[str, str]:
    """What failed, with what it says and advises."""
    return {one.check: f"{one.what} {one.advice}" for one in report.findings if one.verdict == "fail"}


def test_a_healthy_site_needs_nothing(sandbox: Sandbox, opened: Opener) -> None:
    """Everything is found, nothing is proposed, and the extra stays as it is."""
    report = preflight(opened({}), {"page_size": 500})
    assert {one.verdict for one in report.findings} == {"ok"}, as_screen("qad_default", report)
    assert (report.good, report.proposed, report.settings) == (True, [], {"page_size": 500})
    told = {name: one.what for name, one in by_check(report).items()}
    assert told["workspaces"] == "Read: the user's default, DEMO1_DEMO1CO. The user's: DEMO1_DEMO1CO."
    assert told["customers: paging"] == "Later pages come with pageAction=next."
    assert "customerV2.lastModifiedDate tells when a row was changed, and can be asked" in told["customers: changes"]
    assert told["customer by key"] == "Customer C0000201 is found by its key."


def test_a_quick_look_is_a_handful_of_calls(sandbox: Sandbox, opened: Opener) -> None:
    """The first task of a run looks at what every read needs: a login, and three calls for each browse."""
    assert preflight(opened({}), {}, quick=True).good
    assert sandbox.get_control("stats")["calls"] == {BROWSES: 6, "POST /clouderp/oauth/token": 1}


OWN = {CUSTOMERS: "urn:browse:mfg:xv001", CONTACTS: "urn:browse:mfg:xv002"}
CLASSIC_ONLY = {"qad_hidden_browses": [CUSTOMERS]}

SITES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, str], set[str]]] = {
    "browse ids of its own": (
        {"qad_browses": OWN}, {"customers_browse": "urn:browse:mfg:xv01", "contacts_browse": "urn:browse:mfg:xv02"},
        {"customers: browse": "xv001", "contacts: browse": "xv002"},
        {"customers_browse", "contacts_browse"},
    ),
    "only the classic browse": (
        CLASSIC_ONLY, {}, {"customers: browse": "may not see"}, set(),
    ),
    "a misspelt browse": (
        {}, {"customers_browse": "urn:browse:mfg:cm01"}, {"customers: browse": CLASSIC},
        {"customers_browse", "customer_columns"},
    ),
    "the classic browse without its columns": (
        {}, {"customers_browse": CLASSIC}, {"customers: columns": "cm_mstr.cm_addr"}, {"customer_columns"},
    ),
    "a misspelt column": (
        {}, {"contact_columns": {"email": "contact.ContactEMial"}},
        {"contacts: columns": "Nearest: contact.ContactEmail."}, {"contact_columns"},
    ),
    "paging by number": (
        {"qad_paging": "number"}, {}, {"customers: paging": "pageAction=first", "contacts: paging": "pageAction=first"},
        {"paging"},
    ),
    "paging by action, set otherwise": (
        {}, {"paging": "number"}, {"customers: paging": "pageAction=next", "contacts: paging": "pageAction=next"},
        {"paging", "page_action_next"},
    ),
    "no paging at all": (
        {"qad_paging": "repeats"}, {}, {"customers: paging": "one page", "contacts: paging": "one page"},
        {"paging", "page_size"},
    ),
    "more told elsewhere": (
        {"qad_has_more": "elsewhere"}, {}, {"customers: paging": "'paging.moreRows'", "contacts: paging": "moreRows"},
        {"more_at"},
    ),
    "more not told": (
        {"qad_has_more": "absent"}, {},
        {"customers: paging": "first empty page", "contacts: paging": "first empty page"}, {"more_at"},
    ),
    "filters ignored": (
        {"qad_filters": False}, {},
        {"customers: changes": "the same rows whatever", "contacts: changes": "the same rows whatever"},
        {"customer_columns", "contact_columns"},
    ),
    "a misspelt workspace": (
        {}, {"workspaces": "DEMO1_DEMO1C0"}, {"workspaces": "The user's: DEMO1_DEMO1CO"}, {"workspaces"},
    ),
    "an API document without the entity": (
        {"qad_missing": ["/api/erp/customerV2s"]}, {"openapi_url": "/api/openapi.json"},
        {"paths": "does not have /api/erp/customerV2s"}, set(),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("oddities", "extra", "fails", "proposed"), SITES.values(), ids=SITES)
def test_what_does_not_fit_is_named_with_what_is_there(
    sandbox: Sandbox, opened: Opener, oddities: dict[str, Any], extra: dict[str, Any], fails: dict[str, str],
    proposed: set[str],
) -> None:  # fmt: skip
    """Each way in which sites differ has its own finding, and a proposal where there is something to propose."""
    sandbox.post_control("settings", oddities)
    report = preflight(opened(extra), extra)
    found = failing(report)
    assert found.keys() == fails.keys(), as_screen("qad_default", report)
    for check, says in fails.items():
        assert says in found[check]
    assert set(report.proposed) == proposed


@pytest.mark.parametrize(
    ("oddities", "extra", "proposed"), [(site[0], site[1], site[3]) for site in SITES.values() if site[3]],
    ids=[name for name, site in SITES.items() if site[3]],
)  # fmt: skip
def test_the_proposed_extra_passes_and_reads_everything(
    sandbox: Sandbox, opened: Opener, oddities: dict[str, Any], extra: dict[str, Any], proposed: set[str]
) -> None:
    """Who pastes what is proposed has a connection that passes, and whose reads are complete."""
    sandbox.post_control("settings", oddities)
    mended = dict(preflight(opened(extra), extra).settings)
    assert failing(preflight(opened(mended), mended)) == {}
    reads = [opened(mended).customers(), opened(mended).contacts()]
    rows = [sum(len(page) for page in read) for read in reads]
    held = sandbox.get_control("state")["qad"]
    assert rows == [len(held["customers"]), sum(len(row["customers"]) for row in held["contacts"])]
    assert all(read.complete for read in reads), [read.reason for read in reads]


@pytest.mark.parametrize("spelling", ["upper", "bare", "prefixed"])
def test_columns_are_found_however_a_site_spells_them(sandbox: Sandbox, opened: Opener, spelling: str) -> None:
    """Case and table prefix do not matter; nothing has to be set."""
    sandbox.post_control("settings", {"qad_spelling": spelling})
    assert failing(preflight(opened({}), {})) == {}
    read = opened({}).customers()
    assert (next(read)[0].code, read.refused) == ("C0000201", {})


@pytest.mark.parametrize(
    ("answers", "check", "says"),
    [
        pytest.param("html", "address", "a page or an empty body instead of JSON", id="HTML with 200"),
        pytest.param("login_page", "credentials", "its login page instead of JSON", id="the login page with 200"),
        pytest.param("redirect", "credentials", "sent us to its login page", id="302 to the login"),
        pytest.param("redirect_elsewhere", "address", "redirects to elsewhere.invalid", id="302 elsewhere"),
        pytest.param("forbidden", "credentials", "forbids this user to read browses", id="403"),
        pytest.param("submit_failed", "customers: browse", "submitResult.success = false", id="success false"),
        pytest.param("no_data", "customers: browse", "without rows at 'data'", id="no data"),
        pytest.param("away", "address", "HTTP 503", id="503"),
        pytest.param("broken", "address", "HTTP 500", id="500"),
    ],
)
def test_each_silent_failure_is_recognised(
    sandbox: Sandbox, opened: Opener, answers: str, check: str, says: str
) -> None:
    """What QAD does instead of failing is named, once, and nothing that rests on it is asked."""
    sandbox.post_control("settings", {"qad_answers": answers})
    report = preflight(opened({}), {})
    assert says in failing(report)[check]
    assert next(iter(failing(report))) == check


def test_a_wrong_password_is_named_and_not_shown(opened: Opener) -> None:
    """Credentials that QAD refuses end the look at once."""
    report = preflight(opened({}, password="wrong-9Zk"), {})
    assert failing(report).keys() == {"credentials"}
    assert "Check login, password and client_id of connection qad_default" in failing(report)["credentials"]
    assert "9Zk" not in as_screen("qad_default", report)


@pytest.mark.parametrize("auth", ["oauth_password", "basic"])
def test_a_wrong_context_root_is_found_at_the_same_host(sandbox: Sandbox, opened: Opener, auth: str) -> None:
    """What people get wrong first is answered with where QAD is; credentials are not shown to what is tried."""
    report = preflight(opened({"auth": auth}, root="/erp"), {})
    assert f"QAD is at {sandbox.url}/clouderp and {sandbox.url}/qad-central." in failing(report)["address"]
    assert {one.verdict for one in report.findings[1:]} == {"skipped"}


def test_an_empty_workspace_is_a_warning(sandbox: Sandbox, opened: Opener) -> None:
    """A browse that shows nothing in a workspace may be right, and is said all the same."""
    sandbox.post_control("customers", {"code": "X1", "name": "Elsewhere", "domain": "DEMO2"})
    extra = {"workspaces": "DEMO1_DEMO1CO,DEMO2_DEMO2CO"}
    finding = by_check(preflight(opened(extra), extra))["contacts: browse"]
    assert (finding.verdict, "no rows in DEMO2_DEMO2CO" in finding.what) == ("warn", True)


def test_a_site_that_does_not_list_workspaces_is_not_wrong(sandbox: Sandbox, opened: Opener) -> None:
    """What a site does not offer is said and not required."""
    sandbox.post_control("settings", {"qad_missing": ["/api/webshell/workspaces", "/api/erp/customerV2s"]})
    report = preflight(opened({}), {})
    assert report.good
    assert "does not list workspaces" in by_check(report)["workspaces"].what
    assert "cannot be asked for by key" in by_check(report)["customer by key"].what


def test_a_browse_without_a_date_of_change_is_read_in_full(sandbox: Sandbox, opened: Opener) -> None:
    """Without such a column there are no delta reads, which is slower and not wrong."""
    sandbox.post_control("settings", {"qad_without": ["customerV2.lastModifiedDate"]})
    report = preflight(opened({}), {})
    assert report.good
    assert "every read is a full one" in by_check(report)["customers: changes"].what


def test_an_api_document_elsewhere_is_not_asked_for(sandbox: Sandbox, opened: Opener) -> None:
    """Credentials go to the instance alone, whatever the setting says."""
    extra = {"openapi_url": "https://docs.invalid/openapi.json"}
    assert "credentials go nowhere else" in failing(preflight(opened(extra), extra))["paths"]
    extra = {"openapi_url": f"{sandbox.url}/clouderp/api/openapi.json"}
    assert "all 3 paths" in by_check(preflight(opened(extra), extra))["paths"].what


def test_a_site_signs_in_by_cookie(sandbox: Sandbox, opened: Opener) -> None:
    """The session of QAD's own login reads as well as a token, and lapses without harm."""
    client = opened({"auth": "cookie"})
    assert preflight(client, {}).good
    sandbox.post_control("clock", {"advance": 86_400})
    assert preflight(client, {}).good
    assert sandbox.get_control("stats")["calls"]["POST /clouderp/api/login"] == 2


def test_a_report_that_fails_refuses_with_all_of_it(opened: Opener) -> None:
    """The first task of a run ends with every sentence that the screen has, and where to look on."""
    extra = {"customers_browse": "urn:browse:mfg:cm01", "contact_columns": {"email": "contact.ContactEMial"}}
    report = preflight(opened(extra), extra, quick=True)
    with pytest.raises(
        FixFirst, match=rf"qad_default will not do.*{CLASSIC}.*contact\.ContactEmail.*Look on"
    ) as caught:
        report.refuse("connection qad_default", "Look on there.")
    assert caught.value.advice == "Look on there."


@pytest.mark.parametrize(("answers", "says"), [("away", "HTTP 503"), ("busy", "HTTP 429"), ("html", "platform fault")])
def test_a_qad_that_is_away_is_tried_later(sandbox: Sandbox, opened: Opener, answers: str, says: str) -> None:
    """Nobody has to repair a connection whose QAD does not answer."""
    sandbox.post_control("settings", {"qad_answers": answers})
    with pytest.raises(TryLater, match=says):
        preflight(opened({}), {}, quick=True).refuse("connection qad_default", "")
    with pytest.raises(TryLater, match="does not answer"):
        preflight(opened({}, url="http://127.0.0.1:9"), {}, quick=True).refuse("connection qad_default", "")


def test_a_qad_that_goes_away_in_the_middle_is_tried_later(sandbox: Sandbox, opened: Opener) -> None:
    """Also when it answered at first."""
    sandbox.post_control("faults", {"match": BROWSES, "skip": 3, "times": None, "status": 503, "retry_after": "600"})
    with pytest.raises(TryLater, match="HTTP 503"):
        preflight(opened({}), {}, quick=True).refuse("connection qad_default", "")


def test_the_screen_ends_with_an_extra_to_paste(sandbox: Sandbox, opened: Opener) -> None:
    """What stands last on the screen is the whole extra, what was there before included."""
    extra = {"page_size": 50, "contact_columns": {"email": "contact.ContactEMial", "phone": "contact.ContactTelephone"}}
    screen = as_screen("qad_default", preflight(opened(extra), extra))
    head, _, pasted = screen.partition("look at contact_columns first:\n")
    assert "fail    contacts: columns" in head
    assert json.loads(pasted) == {
        "page_size": 50,
        "contact_columns": {"email": "contact.ContactEmail", "phone": "contact.ContactTelephone"},
    }
