"""The client of QAD's QXtend edition, and of plain SOAP services beside it: customers and contacts, page by page.

It promises what every QAD reader promises, and that memory does not grow with the number of rows: an answer is parsed
as it comes and handed on in batches. What is repeated is a request that only reads, and only while nothing of its
answer was handed on. Credentials go to the service's own address alone; redirects are never followed; envelopes are
never logged.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import requests

from airflow_provider_qadzd.errors import Facts, FixFirst, QadzdError, TryLater
from airflow_provider_qadzd.qad import browse, proposals
from airflow_provider_qadzd.qad.auth import Login, QadAuth, unsigned
from airflow_provider_qadzd.qad.browse import Row
from airflow_provider_qadzd.qad.columns import found_columns, records_in, remembered, wanted_columns
from airflow_provider_qadzd.qad.http import Answer, failed, is_passing, retrying, verification
from airflow_provider_qadzd.qad.qxtend import Ask, Envelopes, envelopes_of
from airflow_provider_qadzd.qad.qxtend_answer import AnswerReader, Fields, RootPart, Shape, root_part, shape_of
from airflow_provider_qadzd.qad.qxtend_settings import NONE, QxtendSettings, columns_of, normalised_service_url
from airflow_provider_qadzd.qad.reader import NOTHING, Read
from airflow_provider_qadzd.qad.scope import Scope
from airflow_provider_qadzd.records import Clock, Contact, Customer, SystemClock, digest

T = TypeVar("T")

_BATCH = 1000
"""Records that are handed on at once."""
_HELD_BACK = 5000
"""Records that are read before the first is handed on: a page up to that size is judged, and repeated, as a whole."""
_ELEMENTS = 10_000
_CHUNK = 64 * 1024
_LONGEST = 3600.0
"""Seconds that one answer may take: each byte may come in time, and the whole never."""
_ERROR_BODY = 1 << 20


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """What is read: its request, where its rows are, and how a row becomes a record."""

    name: str
    envelopes: Envelopes
    shape: Shape
    key: str
    wanted: Mapping[str, str]
    optional: frozenset[str]
    record: Callable[[Row, Mapping[str, str]], T]
    further: Mapping[str, str] = field(default_factory=dict)

    @property
    def by_day(self) -> bool:
        """Whether what changed lately can be asked for: a date is sent, and the newest known one can be told.

        Not for contacts within customers: the changed customers would come, and a contact not at all of its own, so
        that it would seem to have left the others.
        """
        return not self.shape.nested and "modified" in self.wanted and self.envelopes.names("changed_since")

    @property
    def source(self) -> str:
        """What it is read from, for people."""
        return "/".join(filter(None, (self.envelopes.operation, self.shape.row, self.shape.nested)))


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer as far as it was looked at: its first records, and what an `AnswerReader` tells of it."""

    records: Sequence[Fields]
    first: Fields | None
    last: Fields | None
    rows: int
    more: bool | None
    warnings: Sequence[str]
    names: Sequence[str]


class QxtendClient:
    """One receiver, read as one user. `session` carries HTTP Basic, if any (`connect` makes both)."""

    def __init__(
        self, url: str, session: requests.Session, settings: QxtendSettings, *, username: str = "", password: str = "",
        clock: Clock | None = None, where: str = "the QAD connection",
    ) -> None:  # fmt: skip
        self.base_url = normalised_service_url(url, settings.allow_http, where)
        self._session, self.settings, self.where = session, settings, where
        self.domains = settings.domains or ("",)
        self._clock: Clock = clock or SystemClock()
        self._verify = verification(settings.verify, settings.allow_http, where)
        self._scope = Scope.checked(settings.customer_scope, settings.shared_sets, where)
        self.facts = Facts(system="qad", method="POST", path=urlsplit(self.base_url).path)
        of_customers, of_contacts = columns_of(settings.profile)
        login = {"username": username, "password": password, "where": where}
        wanted, optional = wanted_columns(
            of_customers, settings.customer_columns, Customer, ("code", "name"), f"{where}: customer_columns"
        )
        self._customers = Kind(
            "customers", envelopes_of(settings, contacts=False, **login), shape_of(settings, contacts=False),
            settings.key_element or wanted["code"], wanted, optional, browse.customer_from,
        )  # fmt: skip
        wanted, optional = wanted_columns(
            of_contacts, settings.contact_columns, Contact, ("customer", "name"), f"{where}: contact_columns"
        )
        own_key = wanted.get("contact_id", "") if settings.contacts_operation else wanted["customer"]
        self._contacts = Kind(
            "contacts", envelopes_of(settings, contacts=True, **login), shape_of(settings, contacts=True),
            settings.contacts_key_element or own_key, wanted, optional, browse.contact_from,
        )  # fmt: skip

    @property
    def kinds(self) -> tuple[Kind[Any], Kind[Any]]:
        """Customers, then contacts."""
        return self._customers, self._contacts

    def customers(self, further: Mapping[str, str] = NOTHING) -> Read[Customer]:
        """All customers, domain by domain, in QAD's order. `further` are columns to take along."""
        return self._read(replace(self._customers, further=further))

    def contacts(self, further: Mapping[str, str] = NOTHING) -> Read[Contact]:
        """All contacts; one of two customers comes twice. `further` is as for customers."""
        return self._read(replace(self._contacts, further=further))

    def customer_exists(self, shared_set: str, code: str) -> bool | None:
        """None: no message asks for one customer so that its silence could be told from "not found"."""
        return None

    def changed_customers(self, since: str, further: Mapping[str, str] = NOTHING) -> Read[Customer] | None:
        """The customers changed on that day or later; None where the request does not name `changed_since`."""
        return self._read(replace(self._customers, further=further), since) if self._customers.by_day else None

    def changed_contacts(self, since: str, further: Mapping[str, str] = NOTHING) -> Read[Contact] | None:
        """The contacts changed on that day or later; None as for customers, and where they are read within them."""
        return self._read(replace(self._contacts, further=further), since) if self._contacts.by_day else None

    def columns(self) -> dict[str, list[str]]:
        """Every element of the first customers and of the first contacts, by what they are read from."""
        return {f"{kind.source} ({kind.name})": self._seen(kind) for kind in self.kinds}

    def check_columns(self, customers: Mapping[str, str], contacts: Mapping[str, str]) -> None:
        """FixFirst if the first rows lack one of these columns; what is named where, as in `customers`."""
        for kind, named in zip(self.kinds, (customers, contacts), strict=True):
            if named:
                found_columns(named, self._seen(kind), (), self._place(kind))

    def _seen(self, kind: Kind[Any]) -> list[str]:
        """The elements of the first rows, of the first domain that has any. FixFirst where none has."""
        names: Sequence[str] = ()
        for domain in self.domains:
            seen = self.look(kind, Ask(domain, page_size=5))
            if seen.records:
                return sorted({name for row in seen.records for name in row})
            names = names or seen.names
        raise self.no_rows(kind, names)

    def look(self, kind: Kind[Any], ask: Ask) -> Seen:
        """One answer, as far as its first records."""
        with self._answered(kind, ask) as answer:
            reader, records = answer.reader, answer.held_back
        return Seen(records, reader.first, reader.last, reader.rows, reader.more, reader.warnings, reader.names)

    def no_rows(self, kind: Kind[Any], names: Sequence[str]) -> FixFirst:
        """QXtend answered well and no row was in it: a name that is not the site's, or domains without customers."""
        near = proposals.nearest(kind.shape.row, names)
        hint = f"Nearest: {', '.join(near)}." if near else f"Its elements: {', '.join(names[:12]) or 'none'}."
        what = f"{self._place(kind)}: the answer holds no {kind.shape.row!r}."
        return FixFirst(what, advice=f"Check row_element. {hint}", facts=self.facts)

    # --- Reading ---

    def _place(self, kind: Kind[Any]) -> str:
        return f"{self.where}: {kind.source}"

    def _columns(self, kind: Kind[Any], keys: set[str] | frozenset[str], listed: Sequence[str]) -> dict[str, str]:
        return browse.resolve_columns(kind.wanted, keys, optional=kind.optional, listed=listed, where=self._place(kind))

    def _read(self, kind: Kind[T], since: str = "") -> Read[T]:
        return Read(lambda read: self._records(kind, read, since))

    def _records(self, kind: Kind[T], read: Read[T], since: str) -> Iterator[list[T]]:
        # An element may be left out of rows where it is blank: what earlier rows had is known to be there.
        seen, reasons, place = list[str](), list[str](), self._scope.placed
        columns_for = remembered(lambda keys: self._columns(kind, keys, seen))
        further_for = remembered(lambda keys: found_columns(kind.further, keys, seen, self._place(kind)))
        for domain in self.domains:
            rows_before, pages = read.rows, _Pages(self._batches(kind, domain, since))
            for rows in pages:
                keys = frozenset[str]().union(*rows)
                seen += keys.difference(seen)
                if len(seen) > _ELEMENTS:
                    advice = f"Check row_element of {self.where}."
                    raise FixFirst(f"QXtend's rows have more than {_ELEMENTS} different elements.", advice=advice)
                read.pages, read.rows = read.pages + 1, read.rows + len(rows)
                columns, further = columns_for(keys), further_for(keys)
                yield records_in(rows, kind.record, columns, further, read.refused, partial(place, domain=domain))
            silent = read.rows == rows_before and not since
            told = [*pages.reasons, "no rows: is the domain known?"] if silent else pages.reasons
            reasons += [f"{kind.name}{f' of {domain}' if domain else ''}: {reason}" for reason in told]
        if read.rows and read.refused.total() == read.rows:
            reasons.append(f"{kind.name}: not one row could be read ({', '.join(sorted(read.refused))})")
        read.end(reasons)

    def _batches(self, kind: Kind[Any], domain: str, since: str) -> Generator[list[Fields], None, list[str]]:
        """The rows of one domain, page after page, and at the end why that may not be all."""
        settings, ask = self.settings, Ask(domain, page_size=self.settings.page_size, changed_since=since)
        seen, warned = set[str](), set[str]()
        for page in range(1, settings.page_cap + 1):
            answer = self._answered(kind, replace(ask, page=page))
            with answer:
                mark = digest(answer.reader.first)
                if mark in seen and answer.reader.rows:
                    return [*_told(warned), f"page {page} repeats an earlier page"]
                seen.add(mark)
                yield from answer
            reader = answer.reader
            warned |= set(reader.warnings)
            if reader.warnings and settings.warnings == "refuse":
                raise self._warned(reader.warnings)
            if settings.paging == NONE or reader.more is False or not reader.rows:
                return _told(warned) if settings.warnings == "incomplete" else []
            if settings.paging == "last_key":
                key = self.key_of(kind, reader.last)
                if not key or key == ask.last_key:
                    why = "its last row has no key" if not key else "it does not go past the key that was asked for"
                    return [*_told(warned), f"page {page}: {why}"]
                ask = replace(ask, last_key=key)
        return [*_told(warned), f"stopped at the cap of {settings.page_cap} pages"]

    def key_of(self, kind: Kind[Any], last: Fields | None) -> str:
        """The key of a page's last row, by which the next page is asked for; empty where it has none."""
        last = last or {}
        columns = browse.resolve_columns({"key": kind.key}, last, where=self._place(kind))
        # As it came: QAD compares what it stored, blanks included.
        key = str(last[columns["key"]] or "")
        return key if key.strip() else ""

    def _warned(self, numbers: Sequence[str]) -> FixFirst:
        facts = replace(self.facts, code=numbers[0])
        return FixFirst("QXtend answered result = warning.", advice="Set warnings to accept, knowingly.", facts=facts)

    # --- HTTP ---

    def _answered(self, kind: Kind[Any], ask: Ask) -> _Answered:
        """An answer, read as far as its first batch; repeated until then."""
        body, headers = kind.envelopes.envelope(ask), kind.envelopes.headers()
        try:
            got = retrying(self._clock, _is_passing)(self._sent, kind.shape, body, headers, kind.envelopes.words)
        except requests.RequestException as error:
            raise failed(error, self.where, self.facts) from None
        if isinstance(got, _Answered):
            return got
        facts = replace(self.facts, status=got.status)
        address = f"Check the address of {self.where}: it ends with the service's own path."
        browse.refuse_status(got, facts, self.where, self._clock.time(), address)

    def _sent(
        self, shape: Shape, body: bytes, headers: Mapping[str, str], asked: Mapping[str, str]
    ) -> _Answered | Answer:  # fmt: skip
        response = self._session.post(
            self.base_url, data=body, headers=headers, allow_redirects=False, stream=True,
            timeout=(10.0, self.settings.timeout), verify=self._verify,
        )  # fmt: skip
        facts = replace(self.facts, status=response.status_code)
        try:
            part, charset = root_part(response.headers, facts)
            reader = AnswerReader(shape, facts, self.where, self.settings.max_megabytes, charset, asked)
            if response.status_code != 200:
                return _refused(response, reader, part)
            return _Answered(response, reader, part, self._clock, facts, self.where)
        except BaseException:
            response.close()
            raise


class _Answered:
    """An answer whose first records are there, and whose further ones come as it is iterated."""

    status = 200

    def __init__(
        self, response: requests.Response, reader: AnswerReader, part: RootPart | None, clock: Clock, facts: Facts,
        where: str,
    ) -> None:  # fmt: skip
        self.reader, self._part, self._clock, self._facts, self._where = reader, part, clock, facts, where
        self._response, self._until = response, clock.time() + _LONGEST
        self._rows = self._each()
        self.held_back = list(islice(self._rows, _HELD_BACK))

    def __enter__(self) -> _Answered:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()

    def __iter__(self) -> Iterator[list[Fields]]:
        """Batches; one that could not be read to its end raises, and the answer is not repeated any more."""
        rows = chain(self.held_back, self._rows)
        self.held_back = []
        try:
            while batch := list(islice(rows, _BATCH)):
                yield batch
        except requests.RequestException as error:
            raise failed(error, self._where, self._facts) from None

    def _each(self) -> Iterator[Fields]:
        for chunk in self._response.iter_content(_CHUNK):
            if self._clock.time() > self._until:
                what = "QXtend's answer takes longer than an hour."
                raise TryLater(what, advice="Ask for smaller pages.", facts=self._facts)
            yield from self.reader.feed(self._part.feed(chunk) if self._part else chunk)
        if self._part:
            self._part.close()
        yield from self.reader.close()


class _Pages(Iterator[list[Fields]]):
    """The batches of a generator, and the reasons that it returns at its end."""

    def __init__(self, batches: Generator[list[Fields], None, list[str]]) -> None:
        self._batches, self.reasons = batches, list[str]()

    def __next__(self) -> list[Fields]:
        try:
            return next(self._batches)
        except StopIteration as end:
            self.reasons = end.value or []
            raise StopIteration from None


def _refused(response: requests.Response, reader: AnswerReader, part: RootPart | None) -> Answer:
    """What is not HTTP 200: raises the SOAP fault in it, if there is one (SOAP 1.1, 6.2, wants 500 for it)."""
    body = b"".join(islice(response.iter_content(_CHUNK), _ERROR_BODY // _CHUNK))
    response.close()
    # Whatever else the body is, the status says more than it.
    with suppress(QadzdError):
        reader.feed(part.feed(body) if part else body)
        reader.close()
    if reader.fault:
        raise reader.fault
    return Answer(response.status_code, response.headers, body)


def _is_passing(error: BaseException) -> bool:
    return isinstance(error, TryLater) or is_passing(error)


def _told(warned: set[str]) -> list[str]:
    """Why a read with warnings is not complete: QXtend says so too when it cut an answer off."""
    return [f"QXtend warned ({', '.join(sorted(warned))})"] if warned else []


def connect(
    url: str, username: str, password: str, settings: QxtendSettings, *, session: requests.Session | None = None,
    clock: Clock | None = None, where: str = "the QAD connection",
) -> QxtendClient:  # fmt: skip
    """A client that signs in as `settings.auth` says; nothing is sent yet."""
    session = session or requests.Session()
    if settings.auth != NONE:
        for name, value in {"login": username, "password": password}.items():
            if not value and (name, settings.auth) != ("login", "session_id"):
                raise FixFirst(f"{where}: {name} is missing.", advice=f"auth = {settings.auth} needs it.")
    if settings.auth in ("basic", "both"):
        # The service's path is the whole address: its folder is what the credentials may be sent to.
        folder = normalised_service_url(url, settings.allow_http, where).rpartition("/")[0]
        session.auth = QadAuth(Login(folder, username, password, mode="basic", where=where), session)
    else:
        session.auth = unsigned
    return QxtendClient(url, session, settings, username=username, password=password, clock=clock, where=where)
