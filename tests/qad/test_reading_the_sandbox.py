"""The client against the simulated QAD, over a real socket: sign-in, both reads, quiet failures, faults on the way."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import pytest

from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.qad.client import QadClient, QadSettings, Read, connect
from airflow_provider_qadzd.records import SystemClock
from airflow_provider_qadzd.sandbox import Sandbox
from tests.qad.conftest import Sessions
from tests.qad.replies import FakeClock, MemoryTokens

SETTINGS = QadSettings(client_id="sandbox", page_size=7)
BROWSES = "GET /clouderp/api/qracore/browses"
TOKEN = "POST /clouderp/oauth/token"
Opener = Callable[..., QadClient]


class Hurried(SystemClock):
    """Real time, with short waits: for workers that wait for one another."""

    def sleep(self, seconds: float) -> None:
        super().sleep(min(seconds, 0.01))


@pytest.fixture
def opened(sandbox: Sandbox, new_session: Sessions) -> Opener:
    """Makes clients of the sandbox."""

    def make(settings: QadSettings = SETTINGS, tokens: MemoryTokens | None = None, **changes: Any) -> QadClient:
        given = {"base_url": f"{sandbox.url}/clouderp", "username": "svc_zendesk", "password": "sandbox", **changes}
        return connect(
            **{"clock": FakeClock(), **given}, settings=settings, tokens=tokens or MemoryTokens(),
            session=new_session(), where="connection qad_default",
        )  # fmt: skip

    return make


def calls(sandbox: Sandbox, pattern: str) -> int:
    """How often the sandbox was asked so."""
    return int(sandbox.get_control("stats")["calls"].get(pattern, 0))


def everything(read: Read[Any]) -> list[Any]:
    """All records of a read."""
    return [record for page in read for record in page]


def test_all_customers_come_once_and_whole(sandbox: Sandbox, opened: Opener) -> None:
    """Pages of seven add up to what QAD holds, and the read knows that it is complete."""
    read = opened().customers()
    customers = everything(read)
    held = {row["code"]: row for row in sandbox.get_control("state")["qad"]["customers"]}
    assert {customer.code.strip() for customer in customers} == {code.strip() for code in held}
    assert (len(customers), read.rows, read.pages, read.complete) == (40, 40, 6, True)
    first = customers[0]
    row = held[first.code]
    assert (first.name, first.active, first.shared_set) == (row["name"].strip(), row["active"], row["shared_set"])


def test_all_contacts_come_with_their_keys_and_customers(sandbox: Sandbox, opened: Opener) -> None:
    """A contact of several customers comes once for each, under one key."""
    read = opened().contacts()
    found = sorted((contact.key, contact.customer) for contact in everything(read))
    held = sandbox.get_control("state")["qad"]["contacts"]
    assert found == sorted((str(row["id"]), code.strip()) for row in held for code in row["customers"])
    assert (read.complete, dict(read.refused)) == (True, {})


def test_the_classic_browse_is_read_by_configured_columns(opened: Opener) -> None:
    """Another browse needs its own column names; defaults that it lacks are left out."""
    columns = {"code": "cm_mstr.cm_addr", "name": "AD_MSTR.ad_name", "domain": "cm_domain"}
    settings = replace(SETTINGS, customers_browse="urn:browse:mfg:cm010", customer_columns=columns)
    customers = everything(opened(settings).customers())
    assert (len(customers), {customer.domain for customer in customers}) == (40, {"DEMO1"})


def test_a_filter_leaves_out_what_it_says(sandbox: Sandbox, opened: Opener) -> None:
    """A configured filter reaches QAD."""
    settings = replace(SETTINGS, customer_filters=("customerV2.isActive,eq,true,literal",))
    sandbox.post_control("customers", {"code": "C0000001", "active": False})
    customers = everything(opened(settings).customers())
    assert customers
    assert all(customer.active for customer in customers)


def test_a_repeated_page_is_noticed(opened: Opener) -> None:
    """A wrong action for later pages makes QAD repeat the first one: handed on once, and not complete."""
    read = opened(replace(SETTINGS, page_action_next="forward")).customers()
    assert len(everything(read)) == 7
    assert (read.complete, read.reason) == (False, "customers: page 2 repeats an earlier page")


def test_an_unknown_browse_is_named(opened: Opener) -> None:
    """QAD's silence about an unknown browse becomes an error."""
    with pytest.raises(FixFirst, match=r"knows no browse 'urn:browse:mfg:zz999'.*contacts_browse"):
        everything(opened(replace(SETTINGS, contacts_browse="urn:browse:mfg:zz999")).contacts())


def test_an_unknown_workspace_is_empty_and_the_known_one_is_not(opened: Opener) -> None:
    """The workspace header reaches QAD and selects the rows."""
    assert len(everything(opened(replace(SETTINGS, workspaces=("DEMO1_DEMO1CO",))).customers())) == 40
    unknown = opened(replace(SETTINGS, workspaces=("NONE_NONECO",))).customers()
    assert (everything(unknown), unknown.complete) == ([], False)


def test_a_token_that_dies_between_pages_is_replaced(sandbox: Sandbox, opened: Opener) -> None:
    """A read goes on over a lapsed session with one new login."""
    read = opened().customers()
    first = next(read)
    sandbox.post_control("tokens", {"qad": True})
    assert len(first) + len(everything(read)) == 40
    assert (read.complete, calls(sandbox, TOKEN)) == (True, 2)


def test_workers_share_one_login(sandbox: Sandbox, opened: Opener) -> None:
    """Eight clients that start at once over one token store log in once between them."""
    tokens, start = MemoryTokens(), Barrier(8)
    clients = [opened(tokens=tokens, clock=Hurried()) for _ in range(8)]

    def count(client: QadClient) -> int:
        start.wait(10)
        return len(everything(client.customers()))

    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(count, clients))
    assert (counts, calls(sandbox, TOKEN)) == ([40] * 8, 1)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        pytest.param({"password": "wrong"}, "Check login, password and client_id of connection", id="password"),
        pytest.param({"settings": replace(SETTINGS, client_id="other")}, "QAD refused the login", id="client id"),
        pytest.param({"settings": replace(SETTINGS, auth="bearer")}, "Check the login of connection", id="bearer"),
        pytest.param(
            {"settings": replace(SETTINGS, auth="basic"), "password": "wrong"}, "refused the credentials", id="basic"
        ),
    ],
)
def test_wrong_credentials_are_named_and_not_repeated(
    sandbox: Sandbox, opened: Opener, changes: dict[str, Any], match: str
) -> None:
    """Each way of signing in says which connection to look at, after one attempt."""
    with pytest.raises(FixFirst, match=match):
        everything(opened(**changes).customers())
    assert sum(sandbox.get_control("stats")["calls"].values()) == 1


def test_basic_reads_without_a_token(sandbox: Sandbox, opened: Opener) -> None:
    """Basic works by itself."""
    assert len(everything(opened(replace(SETTINGS, auth="basic")).customers())) == 40
    assert calls(sandbox, TOKEN) == 0


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"status": 503, "retry_after": "3"}, id="503 with Retry-After"),
        pytest.param({"status": 429}, id="429"),
        pytest.param({"action": "drop"}, id="a dropped connection"),
        pytest.param({"action": "reset-after"}, id="an answer that breaks off"),
    ],
)
def test_a_passing_fault_is_passed_over(sandbox: Sandbox, opened: Opener, fault: dict[str, Any]) -> None:
    """Two spoiled answers in the middle of a read cost two repetitions and nothing else."""
    client = opened()
    sandbox.post_control("faults", {"match": BROWSES, "times": 2, "skip": 3, **fault})
    read = client.customers()
    assert (len(everything(read)), read.complete) == (40, True)


@pytest.mark.parametrize(
    ("fault", "error", "match"),
    [
        pytest.param({"status": 503, "retry_after": "600"}, TryLater, "Wait 600 s", id="away for long"),
        pytest.param({"action": "html"}, TryLater, "platform fault", id="a page with 200"),
        pytest.param({"status": 403, "body": {"errors": [{"code": "403"}]}}, FixFirst, "code=403", id="403"),
        pytest.param({"status": 302, "headers": {"Location": "/login.jsp?error=1"}}, FixFirst, "login", id="302"),
        pytest.param({"status": 200, "body": {}}, FixFirst, "without rows", id="no data"),
    ],
)
def test_a_lasting_fault_ends_the_read(
    sandbox: Sandbox, opened: Opener, fault: dict[str, Any], error: Any, match: str
) -> None:
    """The pages before the fault were handed on, the fault is named, and the read is not complete."""
    sandbox.post_control("faults", {"match": BROWSES, "times": None, "skip": 2, **fault})
    read, pages = opened().customers(), []
    with pytest.raises(error, match=match):
        pages.extend(read)
    assert (len(pages), read.complete) == (1, False)


def test_a_customer_is_found_by_its_key_or_not(sandbox: Sandbox, opened: Opener) -> None:
    """The keyed look-up tells a customer that is there from one that is gone."""
    customer = next(opened().customers())[0]
    assert opened().customer_exists(customer.shared_set, customer.code) is True
    assert opened().customer_exists(customer.shared_set, "ZZ999") is False
