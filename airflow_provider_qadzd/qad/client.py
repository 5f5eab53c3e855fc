"""The client of QAD's Adaptive REST edition: customers and contacts, page by page, and whether that was all of them.

It promises that a read never claims to be complete when it is not: it ends complete only because QAD said so, and it
cannot loop for ever. It only reads. What is repeated is a GET that QAD was too busy or too far away to answer, a few
times and within a bound; redirects are never followed. The session is handed in, and with it the network.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, TypeVar

import requests

from airflow_provider_qadzd.errors import Facts, FixFirst
from airflow_provider_qadzd.qad import browse
from airflow_provider_qadzd.qad.auth import Login, QadAuth, unsigned
from airflow_provider_qadzd.qad.browse import BrowsePage, Row
from airflow_provider_qadzd.qad.columns import found_columns, records_in, remembered, wanted_columns
from airflow_provider_qadzd.qad.http import Answer, failed, normalised_base_url, received, retrying, verification
from airflow_provider_qadzd.qad.reader import NOTHING, Read
from airflow_provider_qadzd.qad.scope import Scope
from airflow_provider_qadzd.records import Clock, Contact, Customer, SystemClock, TokenStore, fold

__all__ = ["Kind", "QadClient", "QadSettings", "Read", "connect", "normalised_base_url"]

T = TypeVar("T")

PAGING = ("action", "number", "one_page")


@dataclass(frozen=True, slots=True)
class QadSettings:
    """A QAD connection's extra. Times are seconds; columns map a field of Customer or Contact to a browse column.

    `workspaces` are `x-qad-workspace-id` values, read one after the other; none means the user's default workspace.
    A column set to "" is not read. `paging` is how later pages are asked for: by `action` (`page_action_next`), by
    page `number` alone, or not at all: `one_page` of `page_size` rows. `more_at` is where QAD tells that more pages
    follow; with `empty_page` it never tells, and the first empty page ends the read. `customer_path` is the entity that
    is asked for one customer by its key; empty where a site has none. `openapi_url` is where the instance's own API
    document is, if somebody knows. `customer_scope` and `shared_sets` are as in
    `qad/scope`. `verify` is true, or the file of a CA bundle; false needs `allow_http`. `customer_url`,
    `orders_url` and `billing_url` are pages for people; how a site's are addressed is not documented. They may hold
    {base_url}, {code}, {shared_set} and {domain}.
    """

    auth: str = "oauth_password"
    client_id: str = ""
    token_path: str = ""
    token_ttl: float = 1200.0
    workspaces: tuple[str, ...] = ()
    workspace_header: str = "x-qad-workspace-id"
    customers_browse: str = browse.CUSTOMERS_BROWSE
    contacts_browse: str = browse.CONTACTS_BROWSE
    customer_columns: dict[str, str] = field(default_factory=dict)
    contact_columns: dict[str, str] = field(default_factory=dict)
    customer_filters: tuple[str, ...] = ()
    contact_filters: tuple[str, ...] = ()
    customer_path: str = "/api/erp/customerV2s"
    customer_view: str = "urn:be:com.qad.base.customer.ICustomerV2"
    openapi_url: str = ""
    customer_scope: str = "none"
    shared_sets: dict[str, str] = field(default_factory=dict)
    paging: str = "action"
    page_size: int = 1000
    page_action_next: str = "next"
    page_cap: int = 10_000
    call_id: bool = True
    rows_at: str = "data"
    more_at: str = "auxillaryData.HasMoreParams"
    timeout: float = 60.0
    verify: str = "true"
    customer_url: str = "{base_url}/#/customers/{code}"
    orders_url: str = "{base_url}/#/salesOrders?customerCode={code}"
    billing_url: str = "{base_url}/#/customerInvoices?customerCode={code}"
    allow_http: bool = False


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """What is read: its browse, the setting that names it, and how a row becomes a record."""

    name: str
    setting: str
    columns_setting: str
    browse: str
    filters: tuple[str, ...]
    wanted: dict[str, str]
    optional: frozenset[str]
    """Fields whose column a browse may lack: those that nobody asked for by name."""
    record: Callable[[Row, Mapping[str, str]], T]
    further: Mapping[str, str] = field(default_factory=dict)


class QadClient:
    """One QAD instance, read as one user. `session` carries the authentication (`connect` makes both)."""

    def __init__(
        self, base_url: str, session: requests.Session, settings: QadSettings, clock: Clock | None = None,
        where: str = "the QAD connection",
    ) -> None:  # fmt: skip
        self.base_url = normalised_base_url(base_url, settings.allow_http, where)
        self._session, self.settings, self.where = session, settings, where
        self._clock: Clock = clock or SystemClock()
        self._verify = verification(settings.verify, settings.allow_http, where)
        self.kinds: tuple[Kind[Customer], Kind[Contact]] = _customers_of(settings, where), _contacts_of(settings, where)
        self.workspaces = settings.workspaces or ("",)
        self._scope = Scope.checked(settings.customer_scope, settings.shared_sets, where)
        if settings.paging not in PAGING:
            advice = f"Use one of {', '.join(PAGING)}."
            raise FixFirst(f"{where}: paging {settings.paging!r} is not known.", advice=advice)
        if settings.page_size < 1 or settings.page_cap < 1:
            raise FixFirst(f"{where}: page_size and page_cap must be at least 1.")

    def customers(self, further: Mapping[str, str] = NOTHING) -> Read[Customer]:
        """All customers, page by page, in QAD's order; a customer seen from two workspaces comes twice.

        `further` are columns to take along, each with where it is named.
        """
        return self._read(replace(self.kinds[0], further=further))

    def contacts(self, further: Mapping[str, str] = NOTHING) -> Read[Contact]:
        """All contacts, page by page; a contact of two customers comes twice. `further` is as for customers."""
        return self._read(replace(self.kinds[1], further=further))

    def changed_customers(self, since: str, further: Mapping[str, str] = NOTHING) -> Read[Customer] | None:
        """The customers changed on that day (`YYYY-MM-DD`) or later; None where the browse has no date of change.

        A date that QAD does not set, as for what stands in another table, is not seen. `further` is as for `customers`.
        """
        return self._read_changed(replace(self.kinds[0], further=further), since)

    def changed_contacts(self, since: str, further: Mapping[str, str] = NOTHING) -> Read[Contact] | None:
        """The contacts changed on that day or later; None where the browse has no date of change."""
        return self._read_changed(replace(self.kinds[1], further=further), since)

    def browse_fields(self, browse_id: str) -> list[str]:
        """The columns of a browse, as QAD lists them; none for a browse that QAD does not know."""
        filters = (browse.equals("browseURI", browse_id),)
        pages = self._rows(browse.FIELDS_BROWSE, filters, self.workspaces[0], max(200, self.settings.page_size))
        rows = [row for page in pages for row in page]
        wanted = {"field": "field", "browse": "browseURI"}
        columns = browse.resolve_columns(wanted, {name for row in rows for name in row}, optional=wanted)
        name, owner = columns.get("field", ""), columns.get("browse", "")
        # A site that ignored the filter would list the fields of every browse.
        own = [row for row in rows if fold(str(row.get(owner) or browse_id)) == fold(browse_id)]
        return [str(row[name]) for row in own if row.get(name)]

    def customer_exists(self, shared_set: str, code: str) -> bool | None:
        """Whether QAD finds this customer by its key; None where this instance cannot be asked so."""
        path = self.settings.customer_path
        if not shared_set or not code or not path:
            return None
        params = [("sharedSetCode", shared_set), ("customerCode", code), ("viewUri", self.settings.customer_view)]
        try:
            return browse.found_by_key(self.get(path, params), path.rpartition("/")[2], code)
        except FixFirst as error:
            # 403, 404: this site offers no keyed look-up. 200: it reported an error, which is not "not found".
            if error.facts.path == path and error.facts.status in (200, 403, 404):
                return None
            raise

    def columns(self) -> dict[str, list[str]]:
        """Every column of the customers and of the contacts browse, by the browse's id: what a mapping may name."""
        seen = {kind.browse: self._seen(kind) for kind in self.kinds}
        return {browse_id: sorted({*listed, *keys}, key=fold) for browse_id, (listed, keys) in seen.items()}

    def check_columns(self, customers: Mapping[str, str], contacts: Mapping[str, str]) -> None:
        """FixFirst if a browse lacks one of these columns; what is named where, as in `customers`."""
        both: list[tuple[Kind[Any], Mapping[str, str]]] = [(self.kinds[0], customers), (self.kinds[1], contacts)]
        for kind, named in both:
            if named:
                listed, keys = self._seen(kind)
                found_columns(named, keys, listed, self._place(kind))

    def _seen(self, kind: Kind[Any]) -> tuple[list[str], set[str]]:
        """The columns that the browse lists, and those in its first rows."""
        listed, keys = self.browse_fields(kind.browse), set[str]()
        for workspace in self.workspaces:
            pages = self._rows(kind.browse, kind.filters, workspace, 5, cap=1)
            keys |= {name for page in pages for row in page for name in row}
        self._require(kind, bool(listed or keys))
        return listed, keys

    # --- Reading a browse ---

    def _read(self, kind: Kind[T]) -> Read[T]:
        return Read(lambda read: self._records(kind, read))

    def _read_changed(self, kind: Kind[T], since: str) -> Read[T] | None:
        column = kind.wanted.get("modified")
        if column is None:
            return None
        listed = self.browse_fields(kind.browse)
        found = browse.resolve_columns({"modified": column}, (), optional=kind.optional | {"modified"}, listed=listed)
        if "modified" not in found:
            return None
        only = replace(kind, filters=(*kind.filters, browse.changed_since(found["modified"], since)))
        return Read(lambda read: self._records(only, read, delta=True))

    def _records(self, kind: Kind[T], read: Read[T], delta: bool = False) -> Iterator[list[T]]:
        listed, reasons = self.browse_fields(kind.browse), []
        place = self._scope.placed
        columns_for = remembered(lambda keys: self._columns(kind, keys, listed))
        further_for = remembered(lambda keys: found_columns(kind.further, keys, listed, self._place(kind)))
        for workspace in self.workspaces:
            pages = self._rows(kind.browse, kind.filters, workspace, self.settings.page_size)
            for rows in pages:
                read.pages, read.rows = read.pages + 1, read.rows + len(rows)
                keys = frozenset[str]().union(*rows)
                columns, further = columns_for(keys), further_for(keys)
                yield records_in(rows, kind.record, columns, further, read.refused, partial(place, workspace=workspace))
            silent = workspace and not pages.rows and not delta
            reason = pages.reason or ("no rows: is the workspace known?" if silent else "")
            if reason:  # QAD is as silent about an unknown workspace as about an empty one
                reasons.append(f"{kind.name}{f' of {workspace}' if workspace else ''}: {reason}")
        self._require(kind, bool(listed or read.rows))
        if read.rows and read.refused.total() == read.rows:
            reasons.append(f"{kind.name}: not one row could be read ({', '.join(sorted(read.refused))})")
        read.end(reasons)

    def _require(self, kind: Kind[T], known: bool) -> None:
        """QAD answers an unknown browse with no rows and no error: only its field list tells the two apart."""
        if not known:
            what = f"{self.where}: QAD knows no browse {kind.browse!r}, or its user may not see it."
            raise FixFirst(what, advice=f"Check {kind.setting}.", facts=_facts(browse.PATH))

    def _columns(self, kind: Kind[T], keys: set[str] | frozenset[str], listed: Sequence[str]) -> dict[str, str]:
        optional, where = kind.optional, self._place(kind)
        return browse.resolve_columns(kind.wanted, keys, optional=optional, listed=listed, where=where)

    def _place(self, kind: Kind[T]) -> str:
        return f"{self.where}: {kind.browse}"

    def _rows(
        self, browse_id: str, filters: Sequence[str], workspace: str, page_size: int, cap: int = 0
    ) -> Read[Row]:  # fmt: skip
        """The raw pages of one browse in one workspace, with the guards against repeats and endless reads."""
        settings = self.settings
        cap, call = cap or settings.page_cap, str(uuid.uuid4()) if settings.call_id else ""
        following = settings.page_action_next if settings.paging == "action" else "first"
        if settings.paging == "one_page":
            cap = 1

        def page_at(number: int) -> BrowsePage:
            params = browse.page_params(browse_id, number, page_size=page_size, filters=filters, call_id=call,
                                        following=following)  # fmt: skip
            body = self.get(browse.PATH, params, workspace)
            return browse.page_from(body, browse.FACTS, self.where, rows_at=settings.rows_at,
                                    more_at=settings.more_at)  # fmt: skip

        by_empty_page, whole = settings.more_at == "empty_page", page_size if settings.paging == "one_page" else 0
        return Read(lambda read: _guarded(page_at, cap, by_empty_page, whole, read))

    # --- HTTP ---

    def get(self, path: str, params: Sequence[tuple[str, str]] = (), workspace: str = "") -> dict[str, object]:
        """What QAD answers below the base URL, as a JSON object; FixFirst or TryLater for everything else."""
        facts = _facts(path)
        headers = {"Accept": "application/json"} | ({self.settings.workspace_header: workspace} if workspace else {})
        try:
            answer = retrying(self._clock)(self._sent, path, params, headers)
        except requests.RequestException as error:
            raise failed(error, self.where, facts) from None
        return browse.json_answer(answer, facts, self.where, self._clock.time())

    def _sent(self, path: str, params: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> Answer:
        answer = self._session.get(
            self.base_url + path, params=list(params), headers=headers, allow_redirects=False,
            timeout=(10.0, self.settings.timeout), verify=self._verify, stream=True,
        )  # fmt: skip
        return received(answer)

    def status_at(self, url: str) -> int:
        """The status of an unsigned GET: whether anything is there, without showing it who asks."""
        answer = self._session.get(
            url, auth=unsigned, allow_redirects=False, timeout=(10.0, self.settings.timeout), verify=self._verify,
            stream=True,
        )  # fmt: skip
        answer.close()
        return answer.status_code


def connect(
    base_url: str, username: str, password: str, settings: QadSettings, *, tokens: TokenStore | None = None,
    session: requests.Session | None = None, clock: Clock | None = None, where: str = "the QAD connection",
) -> QadClient:  # fmt: skip
    """A client that signs in. `tokens` keeps the token (needed by `oauth_password`); nothing is sent yet."""
    session = session or requests.Session()
    login = Login(
        base_url=normalised_base_url(base_url, settings.allow_http, where), username=username, password=password,
        mode=settings.auth, client_id=settings.client_id, token_path=settings.token_path,
        token_ttl=settings.token_ttl, timeout=settings.timeout,
        verify=verification(settings.verify, settings.allow_http, where), where=where,
    )  # fmt: skip
    session.auth = QadAuth(login, session, tokens, clock)
    return QadClient(login.base_url, session, settings, clock, where)


def _facts(path: str) -> Facts:
    return Facts(system="qad", method="GET", path=path)


def _guarded(
    page_at: Callable[[int], BrowsePage], cap: int, by_empty_page: bool, whole: int, read: Read[Row]
) -> Iterator[list[Row]]:  # fmt: skip
    """Pages until QAD says there are no more. A page seen before is compared, named and not handed on.

    `whole` is the size of the one page that everything is asked for in, 0 where there may be several.
    """
    seen: set[str] = set()
    for number in range(1, cap + 1):
        page = page_at(number)
        mark = browse.page_mark(page.rows) if page.rows else ""
        if mark in seen:
            # What a server does that does not understand `pageAction` of later pages.
            return read.end([f"page {number} repeats an earlier page"])
        if page.rows:
            seen.add(mark)
            read.pages, read.rows = read.pages + 1, read.rows + len(page.rows)
            yield list(page.rows)
        if page.has_more is False or (by_empty_page and not page.rows):
            return read.end()
        if whole:
            full = page.has_more or len(page.rows) >= whole
            return read.end([f"QAD has more than one page of {whole} rows: raise page_size"] if full else [])
        if not page.rows:
            return read.end([f"page {number} is empty, and QAD did not say that it is the last"])
    return read.end([f"stopped at the cap of {cap} pages"])


def _customers_of(settings: QadSettings, where: str) -> Kind[Customer]:
    wanted, optional = wanted_columns(
        browse.CUSTOMER_COLUMNS, settings.customer_columns, Customer, ("code", "name"), f"{where}: customer_columns"
    )
    filters = browse.checked_filters(settings.customer_filters, f"{where}: customer_filters")
    name = settings.customers_browse
    return Kind(
        "customers", "customers_browse", "customer_columns", name, filters, wanted, optional, browse.customer_from
    )


def _contacts_of(settings: QadSettings, where: str) -> Kind[Contact]:
    wanted, optional = wanted_columns(
        browse.CONTACT_COLUMNS, settings.contact_columns, Contact, ("customer", "name"), f"{where}: contact_columns"
    )
    filters = browse.checked_filters(settings.contact_filters, f"{where}: contact_filters")
    name = settings.contacts_browse
    return Kind("contacts", "contacts_browse", "contact_columns", name, filters, wanted, optional, browse.contact_from)
