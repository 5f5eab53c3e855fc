"""The contract of a QAD reader, whichever edition it reads: the same records, the same ends, no error but ours."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

from airflow_provider_qadzd.errors import FixFirst, QadzdError, TryLater
from airflow_provider_qadzd.qad.reader import QadReader, Read
from airflow_provider_qadzd.records import Contact, Customer
from airflow_provider_qadzd.sandbox import Sandbox
from tests.qad.conftest import Sessions
from tests.qad.editions import EDITIONS, Edition, Lasting
from tests.qad.replies import FakeClock

Opener = Callable[..., QadReader]

EACH = pytest.mark.parametrize("edition", EDITIONS, ids=lambda one: one.name)
PASSING = pytest.mark.parametrize(
    ("edition", "fault"),
    [
        pytest.param(one, dict(fault), id=f"{one.name}: {name}")
        for one in EDITIONS
        for name, fault in one.passing.items()
    ],
)
LASTING = pytest.mark.parametrize(
    ("edition", "lasting"),
    [pytest.param(one, lasting, id=f"{one.name}: {name}") for one in EDITIONS for name, lasting in one.lasting.items()],
)

CUSTOMERS, PAGE = 40, 15
PAGES = 3
"""How many pages of PAGE the customers are."""


@pytest.fixture
def opened(sandbox: Sandbox, new_session: Sessions) -> Opener:
    """Opens readers."""

    def make(edition: Edition, **options: Any) -> QadReader:
        return edition.opened(sandbox, new_session(), FakeClock(), **options)

    return make


def everything(read: Read[Any]) -> list[Any]:
    """All records of a read."""
    return [record for page in read for record in page]


def held_customers(sandbox: Sandbox) -> dict[str, dict[str, Any]]:
    """What QAD holds, by code."""
    return {row["code"]: row for row in sandbox.get_control("state")["qad"]["customers"]}


def spoil(sandbox: Sandbox, edition: Edition, page: int, **fault: Any) -> None:
    """Let the call that brings this page of the next read go wrong."""
    skip = edition.calls_before + page - 1
    sandbox.post_control("faults", {"match": edition.page_calls, "skip": skip, **fault})


@EACH
def test_every_customer_comes_once_and_whole(sandbox: Sandbox, opened: Opener, edition: Edition) -> None:
    """What QAD holds arrives field by field, trimmed, over as many pages as it takes, and the read is complete."""
    read = opened(edition).customers()
    found: dict[str, Customer] = {one.code: one for one in everything(read)}
    held = held_customers(sandbox)
    assert (set(found), read.rows, dict(read.refused)) == ({code.strip() for code in held}, CUSTOMERS, {})
    assert (read.complete, read.reason, read.pages) == (True, "", 6)
    for code, row in held.items():
        one = found[code.strip()]
        told = (one.name, one.business_relation, one.street, one.city, one.postcode, one.country, one.active)
        named = ("name", "business_relation", "street", "city", "zip", "country")
        assert told == (*(row[name].strip() for name in named), row["active"])


@EACH
def test_every_contact_comes_with_each_of_its_customers(sandbox: Sandbox, opened: Opener, edition: Edition) -> None:
    """A contact of several customers comes once for each, under one key, with the same person."""
    read = opened(edition).contacts()
    found: list[Contact] = everything(read)
    held = sandbox.get_control("state")["qad"]["contacts"]
    expected = sorted((str(row["id"]), code.strip()) for row in held for code in row["customers"])
    assert sorted((one.key, one.customer) for one in found) == expected
    people = {(one.key, one.name, one.email, one.phone, one.function, one.primary) for one in found}
    assert people == {
        (str(row["id"]), row["name"].strip(), row["email"].strip(), row["phone"].strip(), row["function"].strip(),
         row["primary"])
        for row in held
    }  # fmt: skip
    assert (read.complete, dict(read.refused)) == (True, {})


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(EDITIONS, 2)))
def test_nothing_downstream_can_tell_the_editions_apart(opened: Opener, one: Edition, other: Edition) -> None:
    """Two editions of one QAD yield equal keys, names and persons."""
    for kind in ("customers", "contacts"):
        records = [{str(record) for record in everything(getattr(opened(edition), kind)())} for edition in (one, other)]
        assert records[0] == records[1]


@EACH
def test_a_page_is_handed_on_before_the_next_is_asked_for(sandbox: Sandbox, opened: Opener, edition: Edition) -> None:
    """Reads stream: after the first page one call for pages was made, and nothing is concluded yet."""
    read = opened(edition, page_size=PAGE).customers()
    assert len(next(read)) == PAGE
    assert sandbox.get_control("stats")["calls"][edition.page_calls] == edition.calls_before + 1
    assert (read.complete, read.reason) == (False, "not read to its end")


@EACH
def test_a_qad_without_rows_is_not_an_error(sandbox: Sandbox, opened: Opener, edition: Edition) -> None:
    """A QAD that is known to be the right one and holds nothing yields nothing."""
    for code in held_customers(sandbox):
        sandbox.post_control("customers", {"code": code, "delete": True})
    for kind in ("customers", "contacts"):
        assert everything(getattr(opened(edition), kind)()) == []


@EACH
def test_what_changed_lately_is_read_alone_or_not_at_all(sandbox: Sandbox, opened: Opener, edition: Edition) -> None:
    """A read of what changed has every record changed since, and few others; where nothing tells, there is none."""
    later = sandbox.get_control("clock")["now"] + 40 * 86_400
    sandbox.post_control("clock", {"advance": 40 * 86_400})
    sandbox.post_control("customers", {"code": "C0000205", "city": "Elsewhere"})
    sandbox.post_control("contacts", {"id": 50007, "function": "Lately"})
    day = time.strftime("%Y-%m-%d", time.gmtime(later - 86_400))
    reads = [opened(edition).changed_customers(day), opened(edition).changed_contacts(day)]
    for read, changed in zip(reads, ({"C0000205"}, {"50007"}), strict=True):
        if read is not None:
            found = {one.key for one in everything(read)}
            assert (changed <= found, len(found) < 5, read.complete) == (True, True, True)
    tomorrow = time.strftime("%Y-%m-%d", time.gmtime(later + 2 * 86_400))
    assert all(read is None or everything(read) == [] for read in (opened(edition).changed_customers(tomorrow),))


@EACH
def test_a_delta_shows_a_contact_at_each_of_its_customers(sandbox: Sandbox, opened: Opener, edition: Edition) -> None:
    """Only one of two customers was changed: their contact comes with both or not at all, or it would seem to leave."""
    now = sandbox.get_control("clock")["now"] + 40 * 86_400
    sandbox.post_control("clock", {"advance": 40 * 86_400})
    people = sandbox.get_control("state")["qad"]["contacts"]
    one = next(row for row in people if len(row["customers"]) == 2)
    sandbox.post_control("customers", {"code": one["customers"][0], "city": "Elsewhere"})
    day = time.strftime("%Y-%m-%d", time.gmtime(now - 86_400))
    read = opened(edition).changed_contacts(day)
    shown = {row.customer for row in everything(read) if row.key == str(one["id"])} if read else set()
    assert shown in (set(), set(one["customers"]))


@EACH
def test_a_customer_is_found_by_its_key_or_not_or_nobody_can_say(opened: Opener, edition: Edition) -> None:
    """The keyed look-up never calls somebody gone who is there."""
    reader = opened(edition)
    one = next(reader.customers())[0]
    assert reader.customer_exists(one.shared_set, one.code) in (True, None)
    assert reader.customer_exists(one.shared_set, "ZZ999") in (False, None)
    assert reader.customer_exists("", "") is None


@EACH
def test_further_columns_come_along(sandbox: Sandbox, opened: Opener, edition: Edition) -> None:
    """A column that a mapping names is in the record under that name, in whatever case it is named."""
    column = edition.customer_column
    for one in everything(opened(edition).customers({column: "the file, line 3"})):
        assert one.columns == {column: held_customers(sandbox)[one.code][edition.customer_value]}
        break
    else:
        pytest.fail("no customer came")


@EACH
def test_a_further_column_that_is_not_there_is_named(opened: Opener, edition: Edition) -> None:
    """The error says which column, and where it was asked for."""
    with pytest.raises(FixFirst, match=r"no\.such_column.*the file, line 3"):
        everything(opened(edition).customers({"no.such_column": "the file, line 3"}))
    with pytest.raises(FixFirst, match=r"no\.such_column.*the file, line 3"):
        opened(edition).check_columns({}, {"no.such_column": "the file, line 3"})


@EACH
def test_columns_are_listed_for_both_kinds(opened: Opener, edition: Edition) -> None:
    """Customers' columns first, then those of contacts."""
    customers, contacts = opened(edition).columns().values()
    assert customers
    assert contacts


@pytest.mark.parametrize("page", range(1, PAGES + 1))
@PASSING
def test_a_fault_that_passes_costs_nothing_but_time(
    sandbox: Sandbox, opened: Opener, edition: Edition, fault: dict[str, Any], page: int
) -> None:
    """Two spoiled answers at any page, and the read is whole all the same."""
    reader = opened(edition, page_size=PAGE)
    spoil(sandbox, edition, page, times=2, **fault)
    read = reader.customers()
    codes = [one.code for one in everything(read)]
    assert (len(set(codes)), len(codes), read.complete) == (CUSTOMERS, CUSTOMERS, True)


@pytest.mark.parametrize("page", range(1, PAGES + 1))
@LASTING
def test_a_fault_that_stays_leaves_the_read_incomplete(
    sandbox: Sandbox, opened: Opener, edition: Edition, lasting: Lasting, page: int
) -> None:
    """The pages before it were handed on, the error is ours and says what it is, and nothing counts as read."""
    reader = opened(edition, page_size=PAGE)
    spoil(sandbox, edition, page, times=None, **lasting.fault)
    read, pages = reader.customers(), []
    with pytest.raises(lasting.error, match=lasting.says) as caught:
        pages.extend(read)
    assert (len(pages), read.complete) == (page - 1, False)
    assert read.reason == caught.value.what
    assert caught.value.facts.system == "qad"
    assert caught.value.advice


@EACH
def test_wrong_credentials_are_named_and_never_shown(opened: Opener, edition: Edition) -> None:
    """The error names the connection, and holds nothing of the password."""
    with pytest.raises(FixFirst, match="connection qad_") as caught:
        everything(opened(edition, password="wrong-pass-9Zk").customers())
    assert "9Zk" not in f"{caught.value!r} {caught.value}"


@EACH
def test_a_machine_that_is_not_there_is_tried_later(opened: Opener, sandbox: Sandbox, edition: Edition) -> None:
    """A connection that is refused is no fault of the settings."""

    class Nowhere:
        url = "http://127.0.0.1:9"

    with pytest.raises(TryLater):
        everything(edition.opened(Nowhere(), requests.Session(), FakeClock()).customers())  # type: ignore[arg-type]


@EACH
def test_every_error_is_one_of_ours(sandbox: Sandbox, opened: Opener, edition: Edition) -> None:
    """Whatever a page consists of, it gives records or one of our errors."""
    reader = opened(edition)
    for body in (
        "",
        "null",
        "0",
        "[]",
        "{}",
        "<a/>",
        "<",
        "\0",
        '"x"',
        "[" * 100_000,
        '{"data":' * 50_000,
        "<a>" * 9_999,
    ):
        sandbox.delete_control("faults")
        spoil(sandbox, edition, 1, times=None, status=200, body=body)
        with pytest.raises(QadzdError):
            everything(reader.customers())
