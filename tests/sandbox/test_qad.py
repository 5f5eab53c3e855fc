"""The simulated QAD: login, browses with their quiet failures, one customer by key."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from airflow_provider_qadzd.sandbox import Sandbox

from .conftest import Client

BROWSES = "/api/qracore/browses"
CUSTOMERS = "urn:browse:bebrowse:com.qad.erp.base.customerV2s"
CLASSIC = "urn:browse:mfg:cm010"
CONTACTS = "urn:browse:mfg:cm803"
CODE = "customerV2.customerCode"


def browse(qad: Client, browse_id: str, **changes: Any) -> requests.Response:
    """One page of a browse."""
    params = {"browseId": browse_id, "page": 1, "pageSize": 200, "pageAction": "first", "callId": "c1", **changes}
    return qad.get(BROWSES, **{key: value for key, value in params.items() if value is not None})


def login(url: str) -> str:
    """A new access token."""
    form = {"grant_type": "password", "client_id": "sandbox", "username": "svc_zendesk", "password": "sandbox"}
    return str(requests.post(f"{url}/clouderp/oauth/token", data=form, timeout=30).json()["access_token"])


def codes(reply: requests.Response) -> list[str]:
    """The customer codes on a page."""
    assert reply.status_code == 200, reply.text
    return [row[CODE] for row in reply.json()["data"]]


def test_pages_follow_each_other_and_say_as_text_whether_there_is_more(qad: Client) -> None:
    """All customers come once over the pages; HasMoreParams is a string."""
    seen, more = [], []
    for page in (1, 2, 3):
        reply = browse(qad, CUSTOMERS, page=page, pageSize=15, pageAction="first" if page == 1 else "next")
        seen += codes(reply)
        more.append(reply.json()["auxillaryData"]["HasMoreParams"])
    assert len(set(seen)) == len(seen) == 40
    assert more == ["true", "true", "false"]


def test_a_wrong_page_action_repeats_the_first_page(qad: Client) -> None:
    """Asking for page 2 with pageAction first gives page 1 again."""
    first = codes(browse(qad, CUSTOMERS, pageSize=5))
    assert codes(browse(qad, CUSTOMERS, pageSize=5, page=2, pageAction="first")) == first
    assert codes(browse(qad, CUSTOMERS, pageSize=5, page=2, pageAction="next")) != first


@pytest.mark.parametrize(
    "change",
    [{"browseId": "urn:browse:mfg:zz999"}, {"page": None}, {"pageAction": None}],
    ids=["unknown browse", "no page", "no page action"],
)
def test_mistakes_are_answered_with_no_rows(qad: Client, change: dict[str, Any]) -> None:
    """An unknown browse, a missing page or a missing pageAction is 200 and empty."""
    reply = browse(qad, CUSTOMERS, **change)
    assert (reply.status_code, reply.json()) == (200, {"data": [], "auxillaryData": {"HasMoreParams": "false"}})


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        (["customerV2.isActive,eq,false,literal"], 1),
        ([f"{CODE},eq,C0000201,literal"], 1),
        ([f"{CODE},rg,C0000201,literal,C0000210,literal"], 10),
        ([f"{CODE},sw,C00002,literal", f"{CODE},ew,5,literal"], 4),
        ([f"{CODE},gt,C0000238,literal"], 2),
        ([f"{CODE},ge,C0000238,literal"], 3),
        ([f"{CODE},lt,C0000203,literal"], 2),
        ([f"{CODE},le,C0000203,literal"], 3),
        (["customerV2.businessRelationName,cn,pike,literal"], 2),
        (["no.suchColumn,eq,1,literal"], 0),
    ],
)
def test_filters_are_repeatable_and_anded(qad: Client, filters: list[str], count: int) -> None:
    """Each operator selects what it says, and several filters must all hold."""
    assert len(codes(browse(qad, CUSTOMERS, filter=filters))) == count


def test_changed_customers_are_found_by_date(sandbox: Sandbox, qad: Client) -> None:
    """A change stamps the day and the second, and a filter on the date finds it."""
    sandbox.post_control("settings", {"qad_token_ttl": 7 * 86400})
    qad.session.headers["Authorization"] = f"Bearer {login(sandbox.url)}"
    sandbox.post_control("clock", {"advance": 3 * 86400})
    made = sandbox.post_control("customers", {"code": "C0000204", "name": "Renamed & Co"})["customer"]
    assert made["modified"] == pytest.approx(sandbox.state.now, abs=10)
    day = sandbox.get_control("clock")["iso"][:10]
    reply = browse(qad, CUSTOMERS, filter=f"customerV2.lastModifiedDate,ge,{day}T00:00:00.000Z,literal")
    assert codes(reply) == ["C0000204"]
    assert reply.json()["data"][0]["customerV2.businessRelationName"] == "Renamed & Co"


def test_a_contact_has_one_row_for_each_of_its_customers(qad: Client) -> None:
    """The contact of two customers comes twice with the same person fields."""
    rows = [row for row in browse(qad, CONTACTS).json()["data"] if row["contact.Contact_ID"] == 50001]
    assert [row["ad_mstr.ad_addr"] for row in rows] == ["C0000201", "C0000210"]
    assert rows[0]["contact.ContactEmail"] == rows[1]["contact.ContactEmail"]


def test_the_classic_browse_spells_its_columns_in_its_own_way(qad: Client) -> None:
    """cm010 has the same customers under the database's names."""
    rows = browse(qad, CLASSIC).json()["data"]
    assert (rows[0]["cm_mstr.cm_addr"], rows[0]["ad_mstr.ad_name"]) == ("C0000201", "Northwind Pumps & Valves")


def test_columns_can_be_discovered(qad: Client) -> None:
    """lookupBrowseFields names the columns of a browse."""
    wanted = f"browseURI,eq,{CONTACTS},literal"
    rows = browse(qad, "urn:browse:custom:lookupBrowseFields", filter=wanted).json()["data"]
    assert {"contact.ContactEmail", "contact.Contact_ID", "ad_mstr.ad_addr"} <= {row["field"] for row in rows}
    assert {row["browseURI"] for row in rows} == {CONTACTS}


@pytest.mark.parametrize("browse_id", [CUSTOMERS, CLASSIC, CONTACTS])
def test_columns_can_be_discovered_before_there_are_rows(sandbox: Sandbox, qad: Client, browse_id: str) -> None:
    """A browse without rows has the columns, of the same types, that its rows will have."""
    wanted = f"browseURI,eq,{browse_id},literal"
    filled = browse(qad, "urn:browse:custom:lookupBrowseFields", filter=wanted).json()["data"]
    row = browse(qad, browse_id).json()["data"][0]
    assert {column["field"] for column in filled} == set(row) - {"local_variables.uniqueId"}
    for code in [customer["code"] for customer in sandbox.get_control("state")["qad"]["customers"]]:
        sandbox.post_control("customers", {"code": code, "delete": True})
    assert browse(qad, browse_id, callId="emptied").json()["data"] == []
    assert browse(qad, "urn:browse:custom:lookupBrowseFields", filter=wanted).json()["data"] == filled
    types = {column["fieldDataType"] for column in filled}
    assert {"character", "logical", "date"} <= types


def test_a_workspace_selects_its_domain(sandbox: Sandbox, qad: Client) -> None:
    """A customer of another domain shows up only in that domain's workspace, an unknown workspace is empty."""
    sandbox.post_control("customers", {"code": "X1", "name": "Elsewhere", "domain": "DEMO2"})
    names = [row["name"] for row in qad.get("/api/webshell/workspaces").json()["qad-qracore"]]
    assert names == ["DEMO1_DEMO1CO", "DEMO2_DEMO2CO"]
    found = {}
    for name in (*names, "NONE_NONECO", None):
        qad.session.headers.pop("x-qad-workspace-id", None)
        if name is not None:
            qad.session.headers["x-qad-workspace-id"] = name
        found[name] = len(codes(browse(qad, CUSTOMERS, callId=f"w-{name}")))
    assert found == {"DEMO1_DEMO1CO": 40, "DEMO2_DEMO2CO": 1, "NONE_NONECO": 0, None: 40}


def test_one_customer_by_key(qad: Client) -> None:
    """The keyed endpoint answers with one customer, or with none."""
    params = {"sharedSetCode": "AllCustomers", "viewUri": "urn:be:com.qad.base.customer.ICustomerV2"}
    found = qad.get("/api/erp/customerV2s", customerCode="C0000202", **params).json()["data"]["customerV2s"]
    assert found[0]["businessRelationName"] == "Åkesson Verktyg AB"
    gone = qad.get("/api/erp/customerV2s", customerCode="C9999999", **params).json()["data"]["customerV2s"]
    assert gone == []


@pytest.mark.parametrize("place", ["data", "params"], ids=["form", "query"])
@pytest.mark.parametrize("base", ["clouderp", "qad-central"])
def test_login_takes_form_and_query_under_both_roots(sandbox: Sandbox, base: str, place: str) -> None:
    """The password grant works in the body and in the query, under either context root."""
    form = {"grant_type": "password", "client_id": "sandbox", "username": "svc_zendesk", "password": "sandbox"}
    reply = requests.request("POST", f"{sandbox.url}/{base}/oauth/token", timeout=30, **{place: form})
    headers = {"Authorization": f"Bearer {reply.json()['access_token']}"}
    apps = {"browseId": "urn:browse:be:com.qad.qra.app.IApp", "pageSize": "1000"}
    found = requests.get(f"{sandbox.url}/{base}{BROWSES}", headers=headers, params=apps, timeout=30)
    assert len(found.json()["data"]) == 3


def test_a_wrong_password_is_401_and_tokens_are_refreshed(sandbox: Sandbox) -> None:
    """Bad credentials are invalid_grant; a refresh token brings a new token."""
    url = f"{sandbox.url}/clouderp/oauth/token"
    form = {"grant_type": "password", "client_id": "sandbox", "username": "svc_zendesk", "password": "sandbox"}
    wrong = requests.post(url, data={**form, "password": "no"}, timeout=30)
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_grant")
    refresh = requests.post(url, data=form, timeout=30).json()["refresh_token"]
    form = {"grant_type": "refresh_token", "client_id": "sandbox", "refresh_token": refresh}
    assert requests.post(url, data=form, timeout=30).status_code == 200


def test_tokens_end_and_basic_is_accepted(sandbox: Sandbox, qad: Client) -> None:
    """An expired token is 401; user and password in the header are as good as a token."""
    sandbox.post_control("clock", {"advance": 3601})
    assert browse(qad, CUSTOMERS).status_code == 401
    params = {"browseId": CUSTOMERS, "page": "1", "pageAction": "first"}
    url = f"{sandbox.url}/clouderp{BROWSES}"
    assert requests.get(url, auth=("svc_zendesk", "sandbox"), params=params, timeout=30).status_code == 200
    assert requests.get(url, auth=("svc_zendesk", "no"), params=params, timeout=30).status_code == 401


def test_customers_and_contacts_can_be_made_moved_and_deleted(sandbox: Sandbox, qad: Client) -> None:
    """The control interface edits QAD, a pair of codes that differ by case included."""
    sandbox.post_control("customers", {"code": "c0000201", "name": "Case twin"})
    assert {"C0000201", "c0000201"} <= set(codes(browse(qad, CUSTOMERS)))
    made = sandbox.post_control("contacts", {"name": "New", "email": "n@x.example", "customers": ["C0000202"]})
    contact_id = made["contact"]["id"]
    sandbox.post_control("contacts", {"id": contact_id, "customers": ["C0000203"]})
    rows = [row for row in browse(qad, CONTACTS).json()["data"] if row["contact.Contact_ID"] == contact_id]
    assert [row["ad_mstr.ad_addr"] for row in rows] == ["C0000203"]
    sandbox.post_control("contacts", {"id": contact_id, "delete": True})
    sandbox.post_control("customers", {"code": "C0000203", "delete": True})
    rows = browse(qad, CONTACTS).json()["data"]
    assert not [row for row in rows if row["contact.Contact_ID"] == contact_id or row["ad_mstr.ad_addr"] == "C0000203"]
