"""Whether a `qad_qxtend` connection fits this QXtend, found out by asking it, before anything rests on it.

Each site has its own operations, elements and paging, so each is asked for, judged, and answered with what is there
instead. Everything is only read, two rows at a time where the site heeds `page_size`: a `quick` look costs two calls of
each kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from airflow_provider_qadzd.errors import Facts, FixFirst, QadzdError, TryLater
from airflow_provider_qadzd.findings import Check, Finding, Report, examine
from airflow_provider_qadzd.qad import browse, proposals
from airflow_provider_qadzd.qad.preflight import merged
from airflow_provider_qadzd.qad.qxtend import Ask
from airflow_provider_qadzd.qad.qxtend_answer import NOT_SOAP
from airflow_provider_qadzd.qad.qxtend_client import Kind, QxtendClient, Seen
from airflow_provider_qadzd.qad.qxtend_settings import NONE

ADDRESS, CREDENTIALS, REQUEST, ANSWER = "address", "credentials", "receiver and operation", "answer"

_ROWS = 2
_LONG_AGO, _FAR_OFF = "1900-01-01", "2999-01-01"


def preflight(client: QxtendClient, given: Mapping[str, object], *, quick: bool = False) -> Report:
    """What is there, what is missing, and what to set. `given` is the connection's extra as it stands.

    `quick` looks only at what every read needs. Nothing is raised: what went wrong is a finding.
    """
    looked = _Look(client)
    checks = [
        Check(ADDRESS, looked.address),
        Check(CREDENTIALS, looked.credentials, (ADDRESS,)),
        Check(REQUEST, looked.request, (CREDENTIALS,)),
        Check(ANSWER, looked.answer, (REQUEST,)),
    ]
    for kind in client.kinds:
        checks += looked.checks_of(kind, quick)
    findings = examine(checks)
    return Report(findings, merged(given, looked.proposed), sorted(looked.proposed), looked.away)


class _Look:
    """One look at a receiver: what was asked once is kept, and so are the proposals."""

    def __init__(self, client: QxtendClient) -> None:
        self.client, self.proposed = client, dict[str, Any]()
        self.away: TryLater | None = None
        self._kinds = {kind.name: _Rows(client, kind) for kind in client.kinds}

    @cached_property
    def first(self) -> QadzdError | None:
        """What went wrong with the first call of all, which every later one depends on."""
        try:
            _ = self._kinds[self.client.kinds[0].name].seen
        except QadzdError as error:
            self.away = error if isinstance(error, TryLater) else None
            return error
        return None

    def address(self) -> Finding:
        """Whether something that speaks SOAP answers there."""
        if self.first is not None and not _spoke(self.first.facts):
            return Finding(ADDRESS, "fail", self.first.what, self.first.advice)
        return Finding(ADDRESS, "ok", f"A service answers at {self.client.base_url}.")

    def credentials(self) -> Finding:
        """Whether it lets us in; a wrong login in the session context is known only from the fault that follows."""
        error = self.first
        if error is not None and (error.facts.status in (401, 403) or error.facts.code == browse.LOGIN_PAGE):
            raise error
        return Finding(CREDENTIALS, "ok", f"It lets us in by {self.client.settings.auth}.")

    def request(self) -> Finding:
        """Whether receiver, operation and session are taken: a fault says that it was not even processed."""
        error, settings = self.first, self.client.settings
        if error is not None and error.facts.status != 200:
            raise error
        named = f"{settings.receiver} takes" if settings.addressing else "The service takes"
        return Finding(REQUEST, "ok", f"{named} {' and '.join(dict.fromkeys(self._operations))}.")

    @property
    def _operations(self) -> list[str]:
        return [kind.envelopes.operation for kind in self.client.kinds]

    def answer(self) -> Finding:
        """Whether the answer says that all went well, and whether it warns."""
        if self.first is not None:
            raise self.first
        warnings = self._kinds[self.client.kinds[0].name].seen[self.client.domains[0]].warnings
        if warnings:
            means = {"incomplete": "no read counts as complete", "accept": "taken for nothing", "refuse": "refused"}
            how = self.client.settings.warnings
            told = f"QXtend warns ({', '.join(warnings)}); with warnings = {how}: {means[how]}."
            advice = "Look the numbers up: a cut-off answer is told so. Set warnings = accept if they mean nothing."
            return Finding(ANSWER, "fail" if how == "refuse" else "warn", told, advice)
        return Finding(ANSWER, "ok", "QXtend answers without errors and warnings.")

    # --- Customers, contacts ---

    def checks_of(self, kind: Kind[Any], quick: bool) -> list[Check]:
        """The checks of one kind, each upon the one before."""
        rows, columns = f"{kind.name}: rows", f"{kind.name}: columns"
        within = (f"{self.client.kinds[0].name}: rows",) if kind.shape.nested else ()
        checks = [
            Check(rows, lambda: self.rows(rows, kind), (ANSWER, *within)),
            Check(columns, lambda: self.columns(columns, kind), (rows,)),
            Check(f"{kind.name}: paging", lambda: self.paging(f"{kind.name}: paging", kind), (rows,)),
        ]
        if not quick:
            changes = f"{kind.name}: changes"
            checks.append(Check(changes, lambda: self.changes(changes, kind), (columns,)))
        return checks

    def rows(self, check: str, kind: Kind[Any]) -> Finding:
        """Whether there are rows, by the name that is configured, in each domain."""
        seen, shape = self._kinds[kind.name].seen, kind.shape
        silent = [domain or "the receiver's own domain" for domain, one in seen.items() if not one.rows]
        if len(silent) == len(seen):
            error = self.client.no_rows(kind, next(iter(seen.values())).names)
            near = proposals.nearest(shape.row, next(iter(seen.values())).names, 1)
            if near:
                setting = "contact_element" if kind.name == "contacts" and not shape.nested else "row_element"
                self.proposed[setting] = near[0]
            return Finding(check, "fail", error.what, error.advice)
        if shape.nested and not any(one.records for one in seen.values()):
            names = self._kinds[kind.name].nested_names
            near = proposals.nearest(shape.nested, names)
            hint = f" Nearest: {', '.join(near)}." if near else ""
            told = f"The first rows have no {shape.nested!r} within {shape.row!r}."
            return Finding(check, "warn", told, f"Check contact_element, unless those customers have none.{hint}")
        if silent:
            advice = "Is the domain known, and may the user see it?"
            return Finding(check, "warn", f"{kind.source} shows no rows in {', '.join(silent)}.", advice)
        return Finding(check, "ok", f"{kind.source} shows rows with {len(self._kinds[kind.name].available)} elements.")

    def columns(self, check: str, kind: Kind[Any]) -> Finding:
        """Whether the rows have an element for every field that is mapped, and which fields stay empty."""
        rows, setting = self._kinds[kind.name], f"{kind.name[:-1]}_columns"
        if not rows.available:
            return Finding(check, "ok", "Without rows no element could be looked at.")
        probable = proposals.probable_columns(kind.name, rows.available)
        missing = {name: column for name, column in kind.wanted.items() if name not in rows.columns}
        wrong = [name for name in missing if name not in kind.optional]
        better = {name: probable[name] for name in missing if name in probable}
        if better:
            self.proposed[setting] = better
        if wrong:
            told = " ".join(f"{rows.refused[name]}" for name in wrong)
            near = {name: better.get(name) or ", ".join(proposals.nearest(missing[name], rows.plain)) for name in wrong}
            hint = " ".join(f"Nearest to {missing[name]}: {one}." for name, one in near.items() if one)
            return Finding(check, "fail", told, f"Correct {setting}. {hint}".strip())
        if better:
            told = ", ".join(f"{name} is probably {column!r}" for name, column in better.items())
            return Finding(check, "warn", f"Not read: {told}.", f"Set {setting}.")
        without = f", without {', '.join(sorted(missing))}" if missing else ""
        return Finding(check, "ok", f"{len(rows.columns)} fields are read{without}.")

    def paging(self, check: str, kind: Kind[Any]) -> Finding:
        """Whether a further page comes as it is asked for, and is another one."""
        paging, rows = self.client.settings.paging, self._kinds[kind.name]
        domain = next((domain for domain, one in rows.seen.items() if one.rows), self.client.domains[0])
        seen = rows.seen[domain]
        if paging == NONE:
            return Finding(check, "ok", "One answer is taken for everything.")
        if seen.more is False or seen.rows < _ROWS:
            return Finding(check, "ok", "All rows are in one answer, so further ones could not be tried.")
        ask = Ask(domain, page=2, page_size=_ROWS)
        if paging == "last_key":
            key = self.client.key_of(kind, seen.last)
            if not key:
                told = f"The last row has no {kind.key!r}, by which the next page is asked for."
                return Finding(check, "fail", told, "Check key_element.")
            ask = replace(ask, last_key=key)
        second = self.client.look(kind, ask)
        if not second.rows or second.first != seen.first:
            return Finding(check, "ok", f"Further pages come by {paging}.")
        self.proposed["paging"] = NONE if seen.rows > _ROWS else ("page" if paging == "last_key" else "last_key")
        told = f"Asked for page 2 by {paging}, the service sends page 1 again."
        if seen.rows > _ROWS:
            return Finding(check, "fail", told, "It heeds no page size either: one answer seems to hold everything.")
        return Finding(check, "fail", told, "Let the body send last_key or page where the service looks for it.")

    def changes(self, check: str, kind: Kind[Any]) -> Finding:
        """Whether what changed lately can be asked for."""
        if kind.shape.nested:
            told = "Contacts within customers are always read whole: a day would not show each at all of its customers."
            return Finding(check, "ok", told)
        if not kind.by_day:
            return Finding(check, "ok", "The request names no changed_since: every read is a full one.")
        domain = next((domain for domain, one in self._kinds[kind.name].seen.items() if one.rows), "")
        asks = (Ask(domain, page_size=_ROWS, changed_since=day) for day in (_LONG_AGO, _FAR_OFF))
        since, until = (self.client.look(kind, ask).rows for ask in asks)
        if since and not until:
            return Finding(check, "ok", "What was changed since a day can be asked for.")
        told = "sends the same rows whatever day it is sent" if until else "sends nothing when it is sent a day"
        advice = "Take changed_since out of the body: then every read is a full one."
        return Finding(check, "warn", f"The service {told}.", advice)


class _Rows:
    """The first rows of one kind in each domain, and what is in them."""

    def __init__(self, client: QxtendClient, kind: Kind[Any]) -> None:
        self._client, self._kind = client, kind
        self.refused: dict[str, str] = {}

    @cached_property
    def seen(self) -> dict[str, Seen]:
        """The first answer in each domain."""
        return {domain: self._client.look(self._kind, Ask(domain, page_size=_ROWS)) for domain in self._client.domains}

    @cached_property
    def available(self) -> list[str]:
        """Every element of the first records."""
        return sorted({name for one in self.seen.values() for row in one.records for name in row})

    @property
    def nested_names(self) -> list[str]:
        """The elements within a row, for one that is not found there."""
        return [name.rpartition(".")[2] for one in self.seen.values() for name in one.first or ()]

    @property
    def plain(self) -> Sequence[str]:
        """The elements without what they stand in, as they are written in settings."""
        return [name.rpartition(".")[2] for name in self.available]

    @cached_property
    def columns(self) -> dict[str, str]:
        """Field -> element, for every mapped field that the rows have an element for."""
        found: dict[str, str] = {}
        for name, column in self._kind.wanted.items():
            try:
                found |= browse.resolve_columns(
                    {name: column}, self.available, optional={name} & self._kind.optional, where=self._kind.source
                )
            except FixFirst as error:
                self.refused[name] = error.what
        return found


def _spoke(facts: Facts) -> bool:
    """Whether what answered with an error was a SOAP service: by an envelope, a fault, or a demand to sign in."""
    if facts.status in (401, 403) or facts.code == browse.LOGIN_PAGE:
        return True
    return facts.code != NOT_SOAP and (facts.status == 200 or (facts.status == 500 and facts.code != ""))
