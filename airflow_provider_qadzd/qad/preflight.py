"""Whether a connection fits this QAD, found out by asking it, before anything rests on it.

QAD fails in silence and differs from site to site: an unknown browse, a misspelt column, a way of paging that it does
not know are all HTTP 200 without rows, or the first page for ever. So each is asked for, judged, and answered with what
is there instead. Everything is only read, in small pieces: a `quick` look costs about four calls a browse.

Which way a site pages and whether it honours filters is documented nowhere, so both are tried.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_qadzd.errors import FixFirst, QadzdError, TryLater
from airflow_provider_qadzd.findings import Check, Finding, Report, examine
from airflow_provider_qadzd.qad import browse, proposals
from airflow_provider_qadzd.qad.client import Kind, QadClient
from airflow_provider_qadzd.qad.http import host_in
from airflow_provider_qadzd.records import fold

ADDRESS, CREDENTIALS, WORKSPACES, KEY, PATHS = "address", "credentials", "workspaces", "customer by key", "paths"

WORKSPACES_PATH = "/api/webshell/workspaces"
PERMISSION_PATH = "/api/qracore/permissionState"
CONTEXT_ROOTS = ("/clouderp", "/qad-central", "/clouderp/devl", "/clouderp/test")
"""Where others' instances are found below their host."""

UNLISTED = "This QAD does not list workspaces; the reads will show whether they are right."
ONE_PAGE = 100_000
_ROWS = 2
_LONG_AGO, _FAR_OFF = "1900-01-01", "2999-01-01"


def preflight(client: QadClient, given: Mapping[str, object], *, quick: bool = False) -> Report:
    """What is there, what is missing, and what to set. `given` is the connection's extra as it stands.

    `quick` looks only at what every read needs. Nothing is raised: what went wrong is a finding.
    """
    looked = _Look(client)
    checks = [Check(ADDRESS, looked.address), Check(CREDENTIALS, looked.credentials, (ADDRESS,))]
    if client.settings.workspaces or not quick:
        checks.append(Check(WORKSPACES, looked.workspaces, (CREDENTIALS,)))
    for kind in client.kinds:
        checks += looked.browse_checks(kind, quick)
    if not quick:
        checks.append(Check(KEY, looked.key, (f"{client.kinds[0].name}: columns",)))
    if client.settings.openapi_url and not quick:
        checks.append(Check(PATHS, looked.paths))
    findings = examine([replace(check, look=looked.noting(check.look)) for check in checks])
    return Report(findings, merged(given, looked.proposed), sorted(looked.proposed), looked.away)


def merged(given: Mapping[str, object], proposed: Mapping[str, Any]) -> dict[str, object]:
    """The extra with the proposals in it; of columns only those that are proposed are changed."""
    merged = dict(given)
    for name, value in proposed.items():
        before = merged.get(name)
        merged[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return merged


class _Look:
    """One look at an instance: what was asked once is kept, and so are the proposals."""

    def __init__(self, client: QadClient) -> None:
        self.client, self.proposed = client, dict[str, Any]()
        self.away: TryLater | None = None
        self._browses = {kind.name: _Browse(client, kind) for kind in client.kinds}

    @cached_property
    def first(self) -> QadzdError | None:
        """What went wrong with the first call of all, which every later one depends on."""
        try:
            _ = self._browses[self.client.kinds[0].name].listed
        except QadzdError as error:
            return error
        return None

    def noting(self, look: Callable[[], Finding]) -> Callable[[], Finding]:
        """The same look, which notes that QAD was away: that is nobody's to repair."""

        def noted() -> Finding:
            try:
                return look()
            except TryLater as error:
                self.away = self.away or error
                raise

        return noted

    def address(self) -> Finding:
        """Whether the host and the context root lead to a QAD."""
        error = self.first
        if error is None or error.facts.code == browse.LOGIN_PAGE:
            return Finding(ADDRESS, "ok", f"QAD answers at {self.client.base_url}.")
        status = error.facts.status
        # Without a status there was no answer, or none that could be trusted: a certificate.
        if isinstance(error, TryLater):
            raise error
        if status is None or status == 404 or 300 <= status < 400:
            there = self._roots() if status == 404 else []
            found = f"QAD is at {' and '.join(there)}. " if there else ""
            return Finding(ADDRESS, "fail", error.what, f"{found}{error.advice}")
        return Finding(ADDRESS, "ok", f"QAD answers at {self.client.base_url}.")

    def _roots(self) -> list[str]:
        """The addresses at the same host where a QAD seems to be: anything but 404."""
        parts = urlsplit(self.client.base_url)
        urls = [f"{parts.scheme}://{parts.netloc}{root}" for root in CONTEXT_ROOTS if root != parts.path]
        try:
            return [url for url in urls if self.client.status_at(url + browse.PATH) in (200, 401, 403)]
        except OSError:  # every error of `requests` is one
            return []

    def credentials(self) -> Finding:
        """Whether QAD lets us in."""
        settings, error = self.client.settings, self.first
        facts = browse.FACTS if error is None else error.facts
        if error and (facts.path != browse.PATH or facts.status not in (200, 403) or facts.code == browse.LOGIN_PAGE):
            raise error
        if facts.status == 403:
            advice = f"Let the QAD user of {self.client.where} read browses."
            return Finding(CREDENTIALS, "fail", "QAD lets us in, and forbids this user to read browses.", advice)
        return Finding(CREDENTIALS, "ok", f"QAD lets us in by {settings.auth}.")

    def workspaces(self) -> Finding:
        """Whether the configured workspaces are the user's."""
        configured = self.client.settings.workspaces
        try:
            rows = _workspaces_in(self.client.get(WORKSPACES_PATH))
        except FixFirst as error:
            if error.facts.status not in (200, 403, 404):
                raise
            return Finding(WORKSPACES, "ok", UNLISTED)
        if not rows:
            return Finding(WORKSPACES, "ok", UNLISTED)
        names = [name for name, _ in rows]
        usual = next((name for name, default in rows if default), names[0])
        unknown = [name for name in configured if name not in names]
        if unknown:
            near = {name: proposals.nearest(name, names, 1) for name in unknown}
            self.proposed["workspaces"] = ",".join(dict.fromkeys((near.get(one) or [one])[0] for one in configured))
            told = f"The user has no workspace {', '.join(unknown)}."
            return Finding(WORKSPACES, "fail", told, f"The user's: {', '.join(names)}.")
        read = ", ".join(configured) or f"the user's default, {usual}"
        return Finding(WORKSPACES, "ok", f"Read: {read}. The user's: {', '.join(names)}.")

    # --- One browse ---

    def browse_checks(self, kind: Kind[Any], quick: bool) -> list[Check]:
        """The checks of one browse, each upon the one before."""
        there, columns = f"{kind.name}: browse", f"{kind.name}: columns"
        checks = [
            Check(there, lambda: self.browse(there, kind), (CREDENTIALS, WORKSPACES)),
            Check(columns, lambda: self.columns(columns, kind), (there,)),
            Check(f"{kind.name}: paging", lambda: self.paging(f"{kind.name}: paging", kind), (there,)),
        ]
        if not quick:
            changes = f"{kind.name}: changes"
            checks.append(Check(changes, lambda: self.changes(changes, kind), (columns,)))
        return checks

    def browse(self, check: str, kind: Kind[Any]) -> Finding:
        """Whether QAD knows the browse, and whether it has rows in each workspace."""
        seen = self._browses[kind.name]
        if not seen.listed and not seen.keys:
            return self._unknown(check, kind)
        silent = [workspace or "the default workspace" for workspace, rows in seen.first_rows.items() if not rows]
        told = f"{kind.browse} has {len(seen.available)} columns."
        if silent:
            advice = "Look there in QAD: is it really empty, and may the user see its rows?"
            return Finding(check, "warn", f"{told} It shows no rows in {', '.join(silent)}.", advice)
        return Finding(check, "ok", f"{told} It shows rows.")

    def _unknown(self, check: str, kind: Kind[Any]) -> Finding:
        """QAD is as silent about a browse that there is not as about one that the user may not see."""
        if self._forbidden(kind.browse):
            advice = "Give the user permission to read it in QAD."
            return Finding(check, "fail", f"The user may not see the browse {kind.browse!r}.", advice)
        near = self._like(kind.browse)
        known = [one for one in proposals.BROWSES[kind.name] if one != kind.browse and one not in near]
        listed = {one: self.client.browse_fields(one) for one in (*near, *known)}
        by_use = {one: proposals.probable_columns(kind.name, columns) for one, columns in listed.items() if columns}
        needed = kind.wanted.keys() - kind.optional
        usable = [one for one, columns in by_use.items() if needed <= columns.keys()]
        if usable:
            fullest = max(usable, key=lambda one: len(by_use[one]))
            best = next((one for one in near if one in usable), fullest)
            others = {name: column for name, column in by_use[best].items() if kind.wanted.get(name) != column}
            self.proposed |= {kind.setting: best, **({kind.columns_setting: others} if others else {})}
        told = f"QAD knows no browse {kind.browse!r}, or its user may not see it."
        offer = f"It knows {', '.join(usable or by_use)}." if by_use else "Ask QAD's admin for a browse of them."
        return Finding(check, "fail", told, f"Check {kind.setting}. {offer}")

    def _forbidden(self, uri: str) -> bool:
        """Whether QAD says so; not every site can be asked."""
        try:
            data = self.client.get(PERMISSION_PATH, [("uri", uri), ("action", "READ")]).get("data")
        except QadzdError:
            return False
        return isinstance(data, Mapping) and data.get("hasPermission") is False

    def _like(self, browse_id: str) -> list[str]:
        """Browses whose ids begin as this one does: who mistypes an id has its beginning right."""
        filters = [f"browseURI,sw,{browse_id[:-2]},literal"]
        params = browse.page_params(browse.FIELDS_BROWSE, 1, page_size=1000, filters=filters)
        try:
            rows = self.client.get(browse.PATH, params).get(self.client.settings.rows_at)
        except QadzdError:
            return []
        ids = {str(row.get("browseURI")) for row in rows if isinstance(row, dict)} if isinstance(rows, list) else set()
        return proposals.nearest(browse_id, ids - {"None"})

    def columns(self, check: str, kind: Kind[Any]) -> Finding:
        """Whether the browse has a column for every field that is mapped, and which fields stay empty."""
        seen = self._browses[kind.name]
        probable = proposals.probable_columns(kind.name, seen.available)
        missing = {name: column for name, column in kind.wanted.items() if name not in seen.columns}
        wrong = {name: column for name, column in missing.items() if name not in kind.optional}
        better = {name: probable[name] for name in missing if name in probable}
        if better:
            self.proposed[kind.columns_setting] = better
        if wrong:
            told = " ".join(
                f"{seen.refused[name]}{_near(column, better.get(name), seen.available)}"
                for name, column in wrong.items()
            )
            return Finding(check, "fail", told, f"Correct {kind.columns_setting}.")
        if better:
            told = ", ".join(f"{name} is probably {column!r}" for name, column in better.items())
            return Finding(check, "warn", f"Not read: {told}.", f"Set {kind.columns_setting}.")
        without = f", without {', '.join(sorted(missing))}" if missing else ""
        return Finding(check, "ok", f"{len(seen.columns)} fields are read{without}.")

    def paging(self, check: str, kind: Kind[Any]) -> Finding:
        """Whether later pages come as they are asked for, and whether QAD says when there are no more."""
        seen, settings = self._browses[kind.name], self.client.settings
        workspace = next((one for one, rows in seen.first_rows.items() if rows), "")
        first, more = seen.first_rows[workspace], seen.more[workspace]
        if settings.paging == "one_page":
            return Finding(check, "ok", f"Everything is asked for in one page of {settings.page_size} rows.")
        if not first:
            return Finding(check, "ok", "Without rows there is nothing to page.")
        if more is None and settings.more_at != "empty_page":
            told = proposals.said_at(seen.bodies[workspace])
            self.proposed["more_at"] = told or "empty_page"
            says = f"It seems to stand at {told!r}." if told else "End at the first empty page."
            return Finding(check, "fail", f"QAD does not say at {settings.more_at!r} whether there is more.", says)
        if more is False or len(first) < _ROWS:
            return Finding(check, "ok", "All rows are on one page, so later pages could not be tried.")
        action = settings.page_action_next if settings.paging == "action" else "first"
        if seen.goes_on(workspace, action):
            return Finding(check, "ok", f"Later pages come with pageAction={action}.")
        told = f"Asked for page 2 with pageAction={action}, QAD sends page 1 again, or nothing."
        for other, proposal in (("next", {"paging": "action"}), ("first", {"paging": "number"})):
            if other != action and seen.goes_on(workspace, other):
                self.proposed |= {**proposal, **({"page_action_next": "next"} if other == "next" else {})}
                return Finding(check, "fail", told, f"It pages with pageAction={other}: set paging as proposed.")
        self.proposed |= {"paging": "one_page", "page_size": ONE_PAGE}
        return Finding(check, "fail", told, "Ask for everything in one page: set paging as proposed.")

    def changes(self, check: str, kind: Kind[Any]) -> Finding:
        """Whether what changed lately can be asked for: the column of the date, and whether filters count."""
        seen = self._browses[kind.name]
        column = seen.columns.get("modified")
        if not column:
            return Finding(check, "ok", "No column tells when a row was changed: every read is a full one.")
        if not any(seen.first_rows.values()):
            return Finding(check, "ok", f"{column} tells when a row was changed.")
        since, until = (seen.count_since(column, day) for day in (_LONG_AGO, _FAR_OFF))
        if since and not until:
            return Finding(check, "ok", f"{column} tells when a row was changed, and can be asked for.")
        told = "shows the same rows whatever is asked" if until else "shows nothing when it is asked"
        self.proposed.setdefault(kind.columns_setting, {})["modified"] = ""
        advice = "Leave the column out, so that every read is a full one, or let the browse's author look."
        return Finding(check, "fail", f"{column} tells when a row was changed, but the browse {told} by it.", advice)

    # --- The rest ---

    def key(self) -> Finding:
        """Whether a customer that the browse shows is found by its key: else missing ones could not be asked for."""
        seen = self._browses[self.client.kinds[0].name]
        code, shared_set = (seen.sample(name) for name in ("code", "shared_set"))
        shared_set = shared_set or self.client.settings.shared_sets.get("*", "")
        found = self.client.customer_exists(shared_set, code)
        if found:
            return Finding(KEY, "ok", f"Customer {code} is found by its key.")
        if found is None:
            return Finding(KEY, "ok", "Customers cannot be asked for by key; full reads alone say who is gone.")
        self.proposed["customer_path"] = ""
        advice = "Check customer_path and customer_view; without a path nobody is asked for."
        return Finding(KEY, "fail", f"Customer {code} is in the browse, and is not found by its key.", advice)

    def paths(self) -> Finding:
        """Whether the instance's own API document has every path that is used."""
        client, url = self.client, self.client.settings.openapi_url
        path = url.removeprefix(client.base_url) if url.startswith(client.base_url + "/") else url
        if not path.startswith("/") or host_in(path):
            advice = f"Give its address below {client.base_url}."
            return Finding(PATHS, "fail", "openapi_url is not at this QAD; credentials go nowhere else.", advice)
        used = [browse.PATH, client.settings.customer_path, WORKSPACES_PATH]
        unknown = proposals.undocumented([one for one in used if one], client.get(path))
        if unknown:
            told = " ".join(f"The API document does not have {one}.{_nearest(near)}" for one, near in unknown.items())
            return Finding(PATHS, "fail", told, "Check the base URL and customer_path.")
        return Finding(PATHS, "ok", f"The API document has all {len(used)} paths that are used.")


class _Browse:
    """One browse as it was seen: its columns, and its first rows in each workspace."""

    def __init__(self, client: QadClient, kind: Kind[Any]) -> None:
        self._client, self._kind = client, kind
        self._call_id = str(uuid.uuid4()) if client.settings.call_id else ""
        self.refused: dict[str, str] = {}

    @cached_property
    def listed(self) -> list[str]:
        """Its columns, as QAD lists them."""
        return self._client.browse_fields(self._kind.browse)

    @cached_property
    def bodies(self) -> dict[str, Mapping[str, Any]]:
        """The first page in each workspace."""
        return {workspace: self._page(1, "first", workspace) for workspace in self._client.workspaces}

    @cached_property
    def _pages(self) -> dict[str, browse.BrowsePage]:
        return {workspace: self._read(body) for workspace, body in self.bodies.items()}

    @property
    def first_rows(self) -> dict[str, Sequence[browse.Row]]:
        """The first rows, by workspace."""
        return {workspace: page.rows for workspace, page in self._pages.items()}

    @property
    def more(self) -> dict[str, bool | None]:
        """Whether there is more, by workspace; None where it is not told."""
        return {workspace: page.has_more for workspace, page in self._pages.items()}

    @cached_property
    def keys(self) -> set[str]:
        """The columns of the first rows."""
        return {name for rows in self.first_rows.values() for row in rows for name in row}

    @property
    def available(self) -> list[str]:
        """Every column, each once, as the rows spell it where they have it."""
        spelt = {fold(name): name for name in (*self.listed, *sorted(self.keys))}
        return [name for name in spelt.values() if not name.startswith("local_variables.")]

    @cached_property
    def columns(self) -> dict[str, str]:
        """Field -> column, for every mapped field that the browse has a column for."""
        found: dict[str, str] = {}
        place = self._kind.browse
        for name, column in self._kind.wanted.items():
            optional = {name} & self._kind.optional
            try:
                found |= browse.resolve_columns(
                    {name: column}, self.keys, optional=optional, listed=self.listed, where=place
                )
            except FixFirst as error:
                self.refused[name] = error.what
        return found

    def sample(self, name: str) -> str:
        """A value of a field in the first row that there is."""
        row = next((row for rows in self.first_rows.values() for row in rows), {})
        return browse.text_in(row.get(self.columns.get(name, "")), name)

    def goes_on(self, workspace: str, action: str) -> bool:
        """Whether page 2, asked for so, is there and is not page 1."""
        rows = self._read(self._page(2, action, workspace)).rows
        return bool(rows) and browse.page_mark(rows) != browse.page_mark(self.first_rows[workspace])

    def count_since(self, column: str, day: str) -> int:
        """How many rows come, of a few, if only those changed since are asked for."""
        workspace = next(one for one, rows in self.first_rows.items() if rows)
        return len(self._read(self._page(1, "first", workspace, browse.changed_since(column, day))).rows)

    def _page(self, number: int, action: str, workspace: str, *filters: str) -> Mapping[str, Any]:
        params = browse.page_params(
            self._kind.browse, number, page_size=_ROWS, filters=(*self._kind.filters, *filters), following=action,
            call_id="" if filters else self._call_id,
        )  # fmt: skip
        return self._client.get(browse.PATH, params, workspace)

    def _read(self, body: Mapping[str, Any]) -> browse.BrowsePage:
        settings, facts = self._client.settings, browse.FACTS
        return browse.page_from(body, facts, self._client.where, rows_at=settings.rows_at, more_at=settings.more_at)


def _workspaces_in(body: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """The names of the listed workspaces, and whether each is the default: a list under whatever name it has."""
    lists = [value for value in body.values() if isinstance(value, list)]
    rows = [row for rows in lists for row in rows if isinstance(row, dict) and row.get("name")]
    return [(str(row["name"]), row.get("default") is True) for row in rows]


def _near(column: str, probable: str | None, available: Sequence[str]) -> str:
    return _nearest([probable] if probable else proposals.nearest(column, available))


def _nearest(names: Sequence[str]) -> str:
    return f" Nearest: {', '.join(names)}." if names else ""
