"""How the simulated QAD differs from site to site, and how it fails: each switch does what the manual says of it."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from airflow_provider_qadzd.sandbox import Sandbox
from airflow_provider_qadzd.sandbox.qad_oddities import CLASSIC, CONTACTS, CUSTOMERS

from .conftest import Client
from .test_qad import BROWSES, browse, codes

FIELDS = "urn:browse:custom:lookupBrowseFields"


def switch(sandbox: Sandbox, **settings: Any) -> None:
    """Set what is to be otherwise."""
    sandbox.post_control("settings", settings)


@pytest.mark.parametrize(
    ("answers", "status", "seen"),
    [
        ("html", 200, "<h1>Down for maintenance"),
        ("login_page", 200, "type='password'"),
        ("redirect", 302, "/clouderp/login.jsp?error=1"),
        ("redirect_elsewhere", 302, "https://elsewhere.invalid/"),
        ("submit_failed", 200, '"success":false'),
        ("no_data", 200, '"auxillaryData":{}'),
        ("forbidden", 403, '"message":"Access is denied"'),
        ("busy", 429, ""),
        ("away", 503, ""),
        ("broken", 500, "<h1>"),
    ],
)
def test_every_call_can_fail_as_qad_fails(sandbox: Sandbox, qad: Client, answers: str, status: int, seen: str) -> None:
    """One switch gives every call one of QAD's ways of not answering; null ends it."""
    switch(sandbox, qad_answers=answers)
    reply = browse(qad, CUSTOMERS)
    assert (reply.status_code, seen in reply.text + reply.headers.get("Location", "")) == (status, True)
    switch(sandbox, qad_answers=None)
    assert codes(browse(qad, CUSTOMERS))


def test_one_call_can_be_401_and_the_next_well(sandbox: Sandbox, qad: Client) -> None:
    """A token that dies between two calls is one fault."""
    sandbox.post_control("faults", {"match": f"GET /clouderp{BROWSES}", "status": 401, "body": ""})
    assert [browse(qad, CUSTOMERS).status_code for _ in range(2)] == [401, 200]


def test_browses_have_other_ids_and_some_are_not_for_everybody(sandbox: Sandbox, qad: Client) -> None:
    """A renamed browse is known by its own id alone; a hidden one looks as if there were none."""
    switch(sandbox, qad_browses={CUSTOMERS: "urn:browse:mfg:xv001"}, qad_hidden_browses=[CONTACTS])
    found = {
        one: len(browse(qad, one).json()["data"]) for one in (CUSTOMERS, "urn:browse:mfg:xv001", CONTACTS, CLASSIC)
    }
    assert found == {CUSTOMERS: 0, "urn:browse:mfg:xv001": 40, CONTACTS: 0, CLASSIC: 40}
    may = [
        qad.get("/api/qracore/permissionState", uri=uri, action="READ").json()["data"]["hasPermission"]
        for uri in (CLASSIC, CONTACTS)
    ]
    assert may == [True, False]


def test_field_lists_can_be_searched(sandbox: Sandbox, qad: Client) -> None:
    """A filter on the start of an id lists the columns of every browse that begins so."""
    rows = browse(qad, FIELDS, pageSize=1000, filter="browseURI,sw,urn:browse:mfg,literal").json()["data"]
    assert {row["browseURI"] for row in rows} == {CLASSIC, CONTACTS}
    assert browse(qad, FIELDS).json()["data"] == []


@pytest.mark.parametrize(
    ("spelling", "column"),
    [
        ("usual", "customerV2.customerCode"),
        ("upper", "CUSTOMERV2.CUSTOMERCODE"),
        ("bare", "customerCode"),
        ("prefixed", "t_customerV2.customerCode"),
    ],
)
def test_rows_fields_and_filters_are_spelt_alike(sandbox: Sandbox, qad: Client, spelling: str, column: str) -> None:
    """A site spells a column in one way, in rows, in field lists and in filters; some it does not have."""
    switch(sandbox, qad_spelling=spelling, qad_without=["customerV2.EMail"])
    rows = browse(qad, CUSTOMERS, filter=f"{column},eq,C0000201,literal").json()["data"]
    assert [row[column] for row in rows] == ["C0000201"]
    listed = browse(qad, FIELDS, filter=f"browseURI,eq,{CUSTOMERS},literal").json()["data"]
    assert {row["field"] for row in listed} >= set(rows[0]) - {"local_variables.uniqueId"}
    assert not [name for name in rows[0] if name.lower().endswith("email")]


@pytest.mark.parametrize(
    ("paging", "action", "comes"),
    [
        ("action", "next", "page 2"), ("action", "first", "page 1"), ("number", "first", "page 2"),
        ("number", "next", "page 1"), ("repeats", "next", "page 1"), ("repeats", "first", "page 1"),
    ],
)  # fmt: skip
def test_later_pages_come_as_the_site_pages(
    sandbox: Sandbox, qad: Client, paging: str, action: str, comes: str
) -> None:
    """What a site does not understand gets it the first page again."""
    switch(sandbox, qad_paging=paging)
    first = codes(browse(qad, CUSTOMERS, pageSize=5))
    second = codes(browse(qad, CUSTOMERS, pageSize=5, page=2, pageAction=action))
    assert ("page 1" if second == first else "page 2") == comes


@pytest.mark.parametrize(
    ("has_more", "told"),
    [
        ("text", {"auxillaryData": {"HasMoreParams": "true"}}),
        ("boolean", {"auxillaryData": {"HasMoreParams": True}}),
        ("elsewhere", {"paging": {"moreRows": "true"}}),
        ("absent", {}),
    ],
)
def test_more_is_told_in_the_site_s_own_way(sandbox: Sandbox, qad: Client, has_more: str, told: dict[str, Any]) -> None:
    """As text, as a boolean, at another place, or not at all."""
    switch(sandbox, qad_has_more=has_more)
    body = browse(qad, CUSTOMERS, pageSize=5).json()
    assert {name: value for name, value in body.items() if name != "data"} == told


def test_filters_can_be_ignored(sandbox: Sandbox, qad: Client) -> None:
    """Then every row comes, whatever is asked."""
    switch(sandbox, qad_filters=False)
    assert len(codes(browse(qad, CUSTOMERS, filter="customerV2.customerCode,eq,nobody,literal"))) == 40


def test_endpoints_can_be_missing_and_the_api_document_says_so(sandbox: Sandbox, qad: Client) -> None:
    """A site that does not offer an endpoint answers 404, and does not have it in its document."""
    everything = qad.get("/api/openapi.json").json()["paths"]
    switch(sandbox, qad_missing=["/api/erp/customerV2s"])
    assert qad.get("/api/erp/customerV2s", customerCode="C0000201").status_code == 404
    assert set(everything) - set(qad.get("/api/openapi.json").json()["paths"]) == {"/api/erp/customerV2s"}
    assert {"/oauth/token", BROWSES, "/api/webshell/workspaces"} <= set(everything)


def test_basic_can_be_refused(sandbox: Sandbox) -> None:
    """Some sites take tokens only."""
    switch(sandbox, qad_basic=False)
    reply = requests.get(f"{sandbox.url}/clouderp{BROWSES}", auth=("svc_zendesk", "sandbox"), timeout=30)
    assert reply.status_code == 401


def test_a_cookie_session_begins_with_json_and_ends_at_the_login_page(sandbox: Sandbox, nobody: Client) -> None:
    """QAD's own login gives a session id that then goes along as a cookie; a lapsed one is sent to the login."""
    url = f"{sandbox.url}/clouderp"
    assert (
        requests.post(f"{url}/api/login", json={"username": "svc_zendesk", "password": "no"}, timeout=30).status_code
        == 401
    )
    reply = requests.post(f"{url}/api/login", json={"username": "svc_zendesk", "password": "sandbox"}, timeout=30)
    cookie = {"Cookie": f"JSESSIONID={reply.json()['sessionId']}"}
    params = {"browseId": CUSTOMERS, "page": "1", "pageAction": "first"}
    asked = requests.get(url + BROWSES, headers=cookie, params=params, timeout=30)
    assert (asked.status_code, "JSESSIONID=" in reply.headers["Set-Cookie"]) == (200, True)
    sandbox.post_control("clock", {"advance": 3601})
    lapsed = requests.get(url + BROWSES, headers=cookie, params=params, timeout=30, allow_redirects=False)
    assert (lapsed.status_code, lapsed.headers["Location"]) == (302, "/clouderp/login.jsp")


@pytest.mark.parametrize(("password", "leads"), [("sandbox", "/clouderp/"), ("no", "/clouderp/login.jsp?error=1")])
def test_a_browser_s_login_is_302_in_any_case(nobody: Client, password: str, leads: str) -> None:
    """Only the address tells whether it was right."""
    reply = nobody.post("/clouderp/login", username="svc_zendesk", password=password)
    assert (reply.status_code, reply.headers["Location"]) == (302, leads)


def test_an_unknown_switch_is_refused(sandbox: Sandbox) -> None:
    """A word that is not there changes nothing."""
    with pytest.raises(ValueError, match="qad_paging=backwards"):
        switch(sandbox, qad_paging="backwards")
