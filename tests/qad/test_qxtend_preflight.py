"""The preflight against QXtends that differ: what is found, what is missing, and that what it proposes works."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.findings import Finding, Report, as_screen
from airflow_provider_qadzd.qad.qxtend_client import QxtendClient, connect
from airflow_provider_qadzd.qad.qxtend_preflight import preflight
from airflow_provider_qadzd.qad.qxtend_settings import qxtend_settings
from airflow_provider_qadzd.sandbox import Sandbox
from tests.qad.conftest import Sessions
from tests.qad.replies import FakeClock

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
QXI, WSA = "/qxi/services/QdocWebService", "/wsa/wsa1"
QDOC = {"receiver": "QADERP", "domains": "DEMO1"}
SITE = {"profile": "openedge", "namespace": "urn:services-site-example:customers"}
Opener = Callable[..., QxtendClient]


@pytest.fixture
def opened(sandbox: Sandbox, new_session: Sessions) -> Opener:
    """Makes clients of the sandbox by their extra."""

    def make(extra: Mapping[str, Any], path: str = QXI, password: str = "sandbox", url: str = "") -> QxtendClient:
        where = "connection qad_qxtend"
        return connect(
            (url or sandbox.url) + path, "svc_zendesk", password, qxtend_settings(extra, f"{where}, extra"),
            session=new_session(), clock=FakeClock(), where=where,
        )  # fmt: skip

    return make


def by_check(report: Report) -> dict[str, Finding]:
    """The findings by check."""
    return {one.check: one for one in report.findings}


def failing(report: Report) -> dict[str, str]:
    """What failed, with its advice."""
    return {one.check: f"{one.what} {one.advice}" for one in report.findings if one.verdict == "fail"}


@pytest.mark.parametrize(
    ("extra", "path"),
    [
        pytest.param(QDOC, QXI, id="query QDoc"),
        pytest.param({**QDOC, "profile": "query_service"}, QXI, id="query service"),
        pytest.param(SITE, WSA, id="OpenEdge service"),
    ],
)
def test_a_healthy_site_needs_nothing(opened: Opener, extra: dict[str, Any], path: str) -> None:
    """Every check passes for each profile, and the extra can stay as it is."""
    report = preflight(opened(extra, path), extra)
    assert {one.verdict for one in report.findings} == {"ok"}, report.findings
    assert (report.good, report.proposed, report.settings) == (True, [], extra)
    assert as_screen("qad_qxtend", report).endswith("The extra of qad_qxtend can stay as it is.")


def test_the_example_of_the_readme_works(opened: Opener) -> None:
    """The whole extra that the README shows reads the sandbox as it stands."""
    extra = json.loads(README.split("```json\n", 1)[1].split("```", 1)[0])
    report = preflight(opened(extra), extra)
    assert {one.verdict for one in report.findings} == {"ok"}, report.findings


def test_a_healthy_site_is_told_as_it_is(opened: Opener) -> None:
    """What was found is in the sentences."""
    found = by_check(preflight(opened(QDOC), QDOC))
    assert found["receiver and operation"].what == "QADERP takes queryCustomerContact."
    assert "queryCustomerContact/customer shows rows with 21 elements" in found["customers: rows"].what
    assert found["customers: paging"].what == "Further pages come by last_key."
    assert found["customers: changes"].what == "What was changed since a day can be asked for."
    assert found["contacts: changes"].what.startswith("Contacts within customers are always read whole")
    service = by_check(preflight(opened({**QDOC, "profile": "query_service"}), QDOC))
    assert service["customers: changes"].what.startswith("The request names no changed_since")


def test_a_quick_look_costs_two_calls_of_each_kind(sandbox: Sandbox, opened: Opener) -> None:
    """The first task of a run looks each time."""
    assert preflight(opened(QDOC), QDOC, quick=True).good
    assert sandbox.get_control("stats")["calls"] == {f"POST {QXI}": 4}


MISTAKES: dict[str, tuple[dict[str, Any], str, str, dict[str, Any] | None]] = {
    "the receiver": ({"receiver": "QADERPX"}, "receiver and operation", "its fault names the receiver", None),
    "the operation": ({"operation": "queryCustomers"}, "receiver and operation", "names the operation", None),
    "the version": ({"session": {"version": "ERP9_9"}}, "receiver and operation", "session version", None),
    "the domain": ({"domains": "DEMO7"}, "answer", "code=6135", None),
    "the row": ({"row_element": "custmer"}, "customers: rows", "Nearest: customer", {"row_element": "customer"}),
    "a column": (
        {"customer_columns": {"name": "adNmae"}}, "customers: columns", "Nearest to adNmae: customer.adName",
        {"customer_columns": {"name": "customer.adName"}},
    ),
    "the result": ({"result_element": "outOK"}, "answer", "no result", None),
    "the key": ({"key_element": "cmAdr"}, "customers: paging", "no column 'cmAdr'", None),
    "paging": (
        {"body": "<dsQuery><ttQuery><tt_max_rows>{{ page_size }}</tt_max_rows></ttQuery></dsQuery>"},
        "customers: paging", "sends page 1 again", {"paging": "page"},
    ),
    "paging where no size is heeded": (
        {"body": "<dsQuery/>"}, "customers: paging", "one answer seems to hold everything", {"paging": "none"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("wrong", "check", "told", "proposed"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_a_failure_that_says_what_to_do(
    opened: Opener, wrong: dict[str, Any], check: str, told: str, proposed: dict[str, Any] | None
) -> None:
    """It is named where it is, and the extra to paste has the proposal."""
    extra = {**QDOC, **wrong}
    report = preflight(opened(extra), extra)
    failed = failing(report)
    assert next(iter(failed)) == check
    assert told in failed[check]
    assert dict(report.settings) == {**extra, **(proposed or {})}
    assert not report.good


@pytest.mark.parametrize("name", ["the row", "a column", "paging where no size is heeded"])
def test_what_is_proposed_works(opened: Opener, name: str) -> None:
    """With the proposed extra pasted, nothing fails any more."""
    extra = {**QDOC, **MISTAKES[name][0]}
    mended = dict(preflight(opened(extra), extra).settings)
    assert failing(preflight(opened(mended), mended)) == {}


def test_one_mistake_is_one_failure(opened: Opener) -> None:
    """Contacts within customers are not looked for where no customer is found."""
    extra = {**QDOC, "row_element": "custmer"}
    assert list(failing(preflight(opened(extra), extra))) == ["customers: rows"]


def test_a_contact_element_that_is_not_there_is_a_warning(opened: Opener) -> None:
    """The first customers may have no contacts; the nearest name is told all the same."""
    extra = {**QDOC, "contact_element": "contct"}
    found = by_check(preflight(opened(extra), extra))["contacts: rows"]
    assert (found.verdict, "Nearest: contact" in found.advice) == ("warn", True)


def test_a_field_under_another_name_is_told(opened: Opener) -> None:
    """A field that somebody named, and that others find in an element that is there."""
    extra = {**SITE, "contact_columns": {"name": "t_name"}}
    assert "t_ctname" in failing(preflight(opened(extra, WSA), extra))["contacts: columns"]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        pytest.param("/qxi/services/Nothing", "nothing at this address", id="no such path"),
        pytest.param("/clouderp/api/qracore/browses", "refused the request (HTTP 405)", id="the REST edition"),
    ],
)
def test_a_wrong_address_is_one_failure(opened: Opener, path: str, told: str) -> None:
    """Everything else is skipped for it."""
    report = preflight(opened(QDOC, path), QDOC)
    assert list(failing(report)) == ["address"]
    assert told in failing(report)["address"]
    assert {one.verdict for one in report.findings[1:]} == {"skipped"}


@pytest.mark.parametrize("auth", ["basic", "session"])
def test_wrong_credentials_are_told_and_not_shown(opened: Opener, auth: str) -> None:
    """Over HTTP they are known for what they are; in the session they come as a fault."""
    report = preflight(opened({**QDOC, "auth": auth}, password="wrong-3Vx"), QDOC)
    assert list(failing(report)) == ["credentials" if auth == "basic" else "receiver and operation"]
    assert "login" in next(iter(failing(report).values()))
    assert "3Vx" not in f"{report}"


@pytest.mark.parametrize(("warnings", "verdict"), [("incomplete", "warn"), ("accept", "warn"), ("refuse", "fail")])
def test_a_warning_is_told_with_what_it_means(
    sandbox: Sandbox, opened: Opener, warnings: str, verdict: str
) -> None:  # fmt: skip
    """Reads stay incomplete until somebody has looked the number up."""
    sandbox.post_control("settings", {"qxtend_result": "warning"})
    extra = {**QDOC, "warnings": warnings}
    found = by_check(preflight(opened(extra), extra))["answer"]
    assert (found.verdict, "6027" in found.what) == (verdict, True)


def test_a_qxtend_that_is_away_needs_no_repair(sandbox: Sandbox, opened: Opener) -> None:
    """The first task of a run then tries later, and does not say that something must be set."""
    sandbox.post_control("faults", {"match": f"POST {QXI}", "times": None, "status": 503})
    with pytest.raises(TryLater):
        preflight(opened(QDOC), QDOC, quick=True).refuse("connection qad_qxtend", "")
    sandbox.delete_control("faults")
    with pytest.raises(TryLater):
        preflight(opened(QDOC, url="http://127.0.0.1:9"), QDOC, quick=True).refuse("connection qad_qxtend", "")
    wrong = {**QDOC, "row_element": "custmer"}
    with pytest.raises(FixFirst, match=r"will not do.*custmer"):
        preflight(opened(wrong), wrong, quick=True).refuse("connection qad_qxtend", "")


def test_the_screen_ends_with_an_extra_to_paste(opened: Opener) -> None:
    """What stands last on the screen is the whole extra, what was there before included."""
    extra = {**QDOC, "row_element": "custmer", "page_size": 50}
    screen = as_screen("qad_qxtend", preflight(opened(extra), extra))
    _, _, pasted = screen.partition("look at row_element first:\n")
    assert json.loads(pasted) == {**extra, "row_element": "customer"}
