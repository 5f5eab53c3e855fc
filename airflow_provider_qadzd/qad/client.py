"""The client of QAD's Adaptive REST edition: customers and contacts, page by page, and whether that was all of them.

It promises that a read never claims to be complete when it is not: it ends complete only because QAD said so, and it
cannot loop for ever. It only reads. What is repeated is a GET that QAD was too busy or too far away to answer, a few
times and within a bound; redirects are never followed. The session is handed in, and with it the network.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Generic, TypeVar

import requests
import tenacity

from airflow_provider_qadzd.errors import Facts, FixFirst, QadzdError, SetAside
from airflow_provider_qadzd.qad import browse
from airflow_provider_qadzd.qad.auth import Login, QadAuth, failed, is_passing, normalised_base_url, verification
from airflow_provider_qadzd.qad.browse import Answer, BrowsePage, Row
from airflow_provider_qadzd.qad.columns import found_columns, with_columns
from airflow_provider_qadzd.records import Clock, Contact, Customer, SystemClock, TokenStore, fold
from airflow_provider_qadzd.settings import refuse_unknown

__all__ = ["QadClient", "QadSettings", "Read", "connect", "normalised_base_url"]

T = TypeVar("T")

_ATTEMPTS = 5
_PATIENCE = 90.0
"""Seconds of waiting, over all repetitions of one request, before the caller is told to try later."""
_REPEATED = "repeats an earlier page"
_NONE: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class QadSettings:
    """A QAD connection's extra. Times are seconds; columns map a field of Customer or Contact to a browse column.

    `workspaces` are `x-qad-workspace-id` values, read one after the other; none means the user's default workspace.
    A column set to "" is not read. `more_at` is where QAD tells that more pages follow; with `empty_page` it never
    tells, and the first empty page ends the read. `verify` is true, or the file of a CA bundle; false needs
    `allow_http`. `customer_url` may hold {base_url}, {code}, {shared_set} and {domain}.
    """

    auth: str = "oauth_password"
    client_id: str = ""
    token_path: str = "/oauth/token"
    token_ttl: float = 1200.0
    workspaces: tuple[str, ...] = ()
    workspace_header: str = "x-qad-workspace-id"
    customers_browse: str = browse.CUSTOMERS_BROWSE
    contacts_browse: str = browse.CONTACTS_BROWSE
    customer_columns: dict[str, str] = field(default_factory=dict)
    contact_columns: dict[str, str] = field(default_factory=dict)
    customer_filters: tuple[str, ...] = ()
    contact_filters: tuple[str, ...] = ()
    page_size: int = 1000
    page_action_next: str = "next"
    page_cap: int = 10_000
    call_id: bool = True
    rows_at: str = "data"
    more_at: str = "auxillaryData.HasMoreParams"
    timeout: float = 60.0
    verify: str = "true"
    customer_url: str = "{base_url}/#/customers/{code}"
    allow_http: bool = False


class Read(Generic[T]):
    """Pages as they come. Once they have ended, `complete` says whether that was everything, `reason` why not.

    A fault in the middle raises out of the iteration, and `complete` stays False. `rows` counts what QAD sent;
    `refused` counts, by reason, the rows among them that are no record (a contact without a customer code).
    """

    def __init__(self, pages: Callable[[Read[T]], Iterator[list[T]]]) -> None:
        self.complete, self.reason, self.pages, self.rows = False, "not read to its end", 0, 0
        self.refused: Counter[str] = Counter()
        self._pages = pages(self)

    def __iter__(self) -> Iterator[list[T]]:
        return self

    def __next__(self) -> list[T]:
        try:
            return next(self._pages)
        except QadzdError as error:
            self.reason = error.what
            raise

    def end(self, reasons: Sequence[str] = ()) -> None:
        """Say how the read ended: complete, or incomplete for these reasons."""
        self.complete, self.reason = not reasons, "; ".join(reasons)


@dataclass(frozen=True, slots=True)
class _Kind(Generic[T]):
    """What is read: its browse, the setting that names it, and how a row becomes a record."""

    name: str
    setting: str
    browse: str
    filters: tuple[str, ...]
    wanted: dict[str, str]
    optional: frozenset[str]
    record: Callable[[Row, Mapping[str, str]], T]
    further: Mapping[str, str] = field(default_factory=dict)


class QadClient:
    """One QAD instance, read as one user. `session` carries the authentication (`connect` makes both)."""

    def __init__(
        self, base_url: str, session: requests.Session, settings: QadSettings, clock: Clock | None = None,
        where: str = "the QAD connection",
    ) -> None:  # fmt: skip
        self.base_url = normalised_base_url(base_url, settings.allow_http, where)
        self._session, self._settings, self._where = session, settings, where
        self._clock: Clock = clock or SystemClock()
        self._verify = verification(settings.verify, settings.allow_http, where)
        self._customers = _customers_of(settings, where)
        self._contacts = _contacts_of(settings, where)
        self._workspaces = settings.workspaces or ("",)
        if settings.page_size < 1 or settings.page_cap < 1:
            raise FixFirst(f"{where}: page_size and page_cap must be at least 1.")

    def customers(self, further: Mapping[str, str] = _NONE) -> Read[Customer]:
        """All customers, page by page, in QAD's order; a customer seen from two workspaces comes twice.

        `further` are columns to take along, each with where it is named.
        """
        return self._read(replace(self._customers, further=further))

    def contacts(self, further: Mapping[str, str] = _NONE) -> Read[Contact]:
        """All contacts, page by page; a contact of two customers comes twice. `further` is as for customers."""
        return self._read(replace(self._contacts, further=further))

    def changed_customers(self, since: str, further: Mapping[str, str] = _NONE) -> Read[Customer] | None:
        """The customers changed on that day (`YYYY-MM-DD`) or later; None where the browse has no date of change.

        A date that QAD does not set, as for what stands in another table, is not seen. `further` is as for `customers`.
        """
        return self._read_changed(replace(self._customers, further=further), since)

    def changed_contacts(self, since: str, further: Mapping[str, str] = _NONE) -> Read[Contact] | None:
        """The contacts changed on that day or later; None where the browse has no date of change."""
        return self._read_changed(replace(self._contacts, further=further), since)

    def browse_fields(self, browse_id: str) -> list[str]:
        """The columns of a browse, as QAD lists them; none for a browse that QAD does not know."""
        filters = (browse.equals("browseURI", browse_id),)
        pages = self._rows(browse.FIELDS_BROWSE, filters, self._workspaces[0], 200)
        rows = [row for page in pages for row in page]
        wanted = {"field": "field", "browse": "browseURI"}
        columns = browse.resolve_columns(wanted, {name for row in rows for name in row}, optional=wanted)
        name, owner = columns.get("field", ""), columns.get("browse", "")
        # A site that ignored the filter would list the fields of every browse.
        own = [row for row in rows if fold(str(row.get(owner) or browse_id)) == fold(browse_id)]
        return [str(row[name]) for row in own if row.get(name)]

    def customer_exists(self, shared_set: str, code: str) -> bool | None:
        """Whether QAD finds this customer by its key; None where this instance cannot be asked so."""
        if not shared_set or not code:
            return None
        params = [("sharedSetCode", shared_set), ("customerCode", code), ("viewUri", browse.CUSTOMER_VIEW)]
        try:
            return browse.found_by_key(self._get(browse.CUSTOMER_PATH, params), code)
        except FixFirst as error:
            # 403, 404: this site offers no keyed look-up. 200: it reported an error, which is not "not found".
            if error.facts.path == browse.CUSTOMER_PATH and error.facts.status in (200, 403, 404):
                return None
            raise

    def customer_page(self, code: str, shared_set: str = "", domain: str = "") -> str:
        """The address of the customer's page in QAD, for people to open."""
        template = self._settings.customer_url
        return browse.customer_page(template, self.base_url, code=code, shared_set=shared_set, domain=domain)

    def check(self) -> str:
        """One short line on what is there, for `test_connection`; raises FixFirst or TryLater for what is not.

        Asks for the fields and the first two small pages of each browse: address, credentials, browse ids, columns and
        paging are all used as a real read uses them.
        """
        found = [self._checked(self._customers), self._checked(self._contacts)]
        return f"QAD at {self.base_url}: {'; '.join(found)}."

    def columns(self) -> dict[str, list[str]]:
        """Every column of the customers and of the contacts browse, by the browse's id: what a mapping may name."""
        kinds: tuple[_Kind[Any], ...] = (self._customers, self._contacts)
        seen = {kind.browse: self._seen(kind) for kind in kinds}
        return {browse_id: sorted({*listed, *keys}, key=fold) for browse_id, (listed, keys, _) in seen.items()}

    def check_columns(self, customers: Mapping[str, str], contacts: Mapping[str, str]) -> None:
        """FixFirst if a browse lacks one of these columns; what is named where, as in `customers`."""
        both: tuple[tuple[_Kind[Any], Mapping[str, str]], ...] = (
            (self._customers, customers),
            (self._contacts, contacts),
        )
        for kind, named in both:
            listed, keys, _ = self._seen(kind)
            found_columns(named, keys, listed, self._place(kind))

    def _checked(self, kind: _Kind[T]) -> str:
        listed, keys, silent = self._seen(kind)
        columns = self._columns(kind, keys, listed)
        without = [f"no {name}" for name in sorted(kind.wanted.keys() - columns)]
        notes = ", ".join([*silent, *without])
        return f"{kind.name} from {kind.browse}" + (f" ({notes})" if notes else "")

    def _seen(self, kind: _Kind[T]) -> tuple[list[str], set[str], list[str]]:
        """The columns that the browse lists, those in its first rows, and the workspaces without rows."""
        listed, keys, silent = self.browse_fields(kind.browse), set[str](), []
        for workspace in self._workspaces:
            pages = self._rows(kind.browse, kind.filters, workspace, 5, cap=2)
            keys |= {name for page in pages for row in page for name in row}
            if _REPEATED in pages.reason:
                raise FixFirst(f"{self._where}: {kind.name}: {pages.reason}.", advice="Check page_action_next.")
            silent += [] if pages.rows else [f"no rows in {workspace or 'it'}"]
        self._require(kind, bool(listed or keys))
        return listed, keys, silent

    # --- Reading a browse ---

    def _read(self, kind: _Kind[T]) -> Read[T]:
        return Read(lambda read: self._records(kind, read))

    def _read_changed(self, kind: _Kind[T], since: str) -> Read[T] | None:
        column = kind.wanted.get("modified")
        if column is None:
            return None
        listed = self.browse_fields(kind.browse)
        found = browse.resolve_columns({"modified": column}, (), optional=kind.optional | {"modified"}, listed=listed)
        if "modified" not in found:
            return None
        only = replace(kind, filters=(*kind.filters, browse.changed_since(found["modified"], since)))
        return Read(lambda read: self._records(only, read, delta=True))

    def _records(self, kind: _Kind[T], read: Read[T], delta: bool = False) -> Iterator[list[T]]:
        listed, reasons = self.browse_fields(kind.browse), []
        columns_for = _remembered(lambda keys: self._columns(kind, keys, listed))
        further_for = _remembered(lambda keys: found_columns(kind.further, keys, listed, self._place(kind)))
        for workspace in self._workspaces:
            pages = self._rows(kind.browse, kind.filters, workspace, self._settings.page_size)
            for rows in pages:
                read.pages, read.rows = read.pages + 1, read.rows + len(rows)
                keys = frozenset[str]().union(*rows)
                yield _records_in(rows, columns_for(keys), further_for(keys), kind, read.refused)
            silent = workspace and not pages.rows and not delta
            reason = pages.reason or ("no rows: is the workspace known?" if silent else "")
            if reason:  # QAD is as silent about an unknown workspace as about an empty one
                reasons.append(f"{kind.name}{f' of {workspace}' if workspace else ''}: {reason}")
        self._require(kind, bool(listed or read.rows))
        if read.rows and read.refused.total() == read.rows:
            reasons.append(f"{kind.name}: not one row could be read ({', '.join(sorted(read.refused))})")
        read.end(reasons)

    def _require(self, kind: _Kind[T], known: bool) -> None:
        """QAD answers an unknown browse with no rows and no error: only its field list tells the two apart."""
        if not known:
            what = f"{self._where}: QAD knows no browse {kind.browse!r}, or its user may not see it."
            raise FixFirst(what, advice=f"Check {kind.setting}.", facts=_facts(browse.PATH))

    def _columns(self, kind: _Kind[T], keys: set[str] | frozenset[str], listed: Sequence[str]) -> dict[str, str]:
        optional, where = kind.optional, self._place(kind)
        return browse.resolve_columns(kind.wanted, keys, optional=optional, listed=listed, where=where)

    def _place(self, kind: _Kind[T]) -> str:
        return f"{self._where}: {kind.browse}"

    def _rows(
        self, browse_id: str, filters: Sequence[str], workspace: str, page_size: int, cap: int = 0
    ) -> Read[Row]:  # fmt: skip
        """The raw pages of one browse in one workspace, with the guards against repeats and endless reads."""
        settings = self._settings
        cap, call = cap or settings.page_cap, str(uuid.uuid4()) if settings.call_id else ""

        def page_at(number: int) -> BrowsePage:
            params = browse.page_params(browse_id, number, page_size=page_size, filters=filters, call_id=call,
                                        following=settings.page_action_next)  # fmt: skip
            body = self._get(browse.PATH, params, workspace)
            return browse.page_from(body, _facts(browse.PATH), self._where, rows_at=settings.rows_at,
                                    more_at=settings.more_at)  # fmt: skip

        return Read(lambda read: _guarded(page_at, cap, settings.more_at == "empty_page", read))

    # --- HTTP ---

    def _get(self, path: str, params: Sequence[tuple[str, str]], workspace: str = "") -> dict[str, object]:
        facts = _facts(path)
        headers = {"Accept": "application/json"} | ({self._settings.workspace_header: workspace} if workspace else {})
        try:
            answer = self._retrying()(self._sent, path, params, headers)
        except requests.RequestException as error:
            raise failed(error, self._where, facts) from None
        return browse.json_answer(answer, facts, self._where, self._clock.time())

    def _sent(self, path: str, params: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> Answer:
        answer = self._session.get(
            self.base_url + path, params=list(params), headers=headers, allow_redirects=False,
            timeout=(10.0, self._settings.timeout), verify=self._verify,
        )  # fmt: skip
        return Answer(answer.status_code, answer.headers, answer.content)

    def _retrying(self) -> tenacity.Retrying:
        """Repeats a GET while QAD is away; afterwards the last answer or exception stands."""
        return tenacity.Retrying(
            sleep=self._clock.sleep,
            wait=self._pause,
            stop=lambda state: state.attempt_number >= _ATTEMPTS or state.idle_for + state.upcoming_sleep > _PATIENCE,
            retry=tenacity.retry_if_result(lambda answer: answer.status in browse.AWAY)
            | tenacity.retry_if_exception(is_passing),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )

    def _pause(self, state: tenacity.RetryCallState) -> float:
        """What Retry-After says; else 1, 2, 4 ... seconds at most, at random below that."""
        outcome = state.outcome
        answered = outcome is not None and not outcome.failed
        told = browse.retry_after(outcome.result().headers, self._clock.time()) if outcome and answered else None
        return tenacity.wait_random_exponential(max=30.0)(state) if told is None else told


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
    page_at: Callable[[int], BrowsePage], cap: int, by_empty_page: bool, read: Read[Row]
) -> Iterator[list[Row]]:  # fmt: skip
    """Pages until QAD says there are no more. A page seen before is compared, named and not handed on."""
    seen: set[str] = set()
    for number in range(1, cap + 1):
        page = page_at(number)
        mark = browse.page_mark(page.rows) if page.rows else ""
        if mark in seen:
            # What a server does that does not understand `pageAction` of later pages.
            return read.end([f"page {number} {_REPEATED}"])
        if page.rows:
            seen.add(mark)
            read.pages, read.rows = read.pages + 1, read.rows + len(page.rows)
            yield list(page.rows)
        if page.has_more is False or (by_empty_page and not page.rows):
            return read.end()
        if not page.rows:
            return read.end([f"page {number} is empty, and QAD did not say that it is the last"])
    return read.end([f"stopped at the cap of {cap} pages"])


def _records_in(
    rows: Sequence[Row], columns: Mapping[str, str], further: Mapping[str, str], kind: _Kind[T], refused: Counter[str]
) -> list[T]:
    records = []
    for row in rows:
        try:
            record = kind.record(row, columns)
            records.append(with_columns(record, row, further) if further else record)
        except SetAside as aside:
            refused[aside.reason] += 1
    return records


def _remembered(columns_for: Callable[[frozenset[str]], dict[str, str]]) -> Callable[[frozenset[str]], dict[str, str]]:
    """Pages mostly have the same keys: each set of keys is resolved once."""
    known: dict[frozenset[str], dict[str, str]] = {}

    def answer(keys: frozenset[str]) -> dict[str, str]:
        if keys not in known:
            known[keys] = columns_for(keys)
        return known[keys]

    return answer


def _customers_of(settings: QadSettings, where: str) -> _Kind[Customer]:
    wanted, optional = _wanted(
        browse.CUSTOMER_COLUMNS, settings.customer_columns, Customer, ("code", "name"), f"{where}: customer_columns"
    )
    filters = browse.checked_filters(settings.customer_filters, f"{where}: customer_filters")
    name = settings.customers_browse
    return _Kind("customers", "customers_browse", name, filters, wanted, optional, browse.customer_from)


def _contacts_of(settings: QadSettings, where: str) -> _Kind[Contact]:
    wanted, optional = _wanted(
        browse.CONTACT_COLUMNS, settings.contact_columns, Contact, ("customer", "name"), f"{where}: contact_columns"
    )
    filters = browse.checked_filters(settings.contact_filters, f"{where}: contact_filters")
    name = settings.contacts_browse
    return _Kind("contacts", "contacts_browse", name, filters, wanted, optional, browse.contact_from)


def _wanted(
    defaults: Mapping[str, str], given: Mapping[str, str], record: type, needed: tuple[str, ...], where: str
) -> tuple[dict[str, str], frozenset[str]]:  # fmt: skip
    """The columns to read, and which of them a browse may lack: those that nobody asked for by name."""
    refuse_unknown(given, (known.name for known in fields(record)), where)
    columns = {name: column.strip() for name, column in {**defaults, **given}.items() if column.strip()}
    for name in needed:
        if name not in columns:
            raise FixFirst(f"{where}: {name} cannot be left out.")
    return columns, frozenset(columns) - frozenset(given) - frozenset(needed)
