"""The one seam to Zendesk's network; what can be asked of it stands in `resources`, by resource.

`zendesk.organizations.show_many(external_ids=keys)`: every call goes through `ZendeskClient.send`, over the session
that is handed in. What is safe to repeat is repeated within bounds of attempts and seconds, obeying Retry-After; a
longer wait is `TryLater`. A POST whose answer got lost is never repeated here: `TryLater(unanswered=True)`, and the
caller looks first. Redirects are not followed and addresses that Zendesk sends are not used, so that the Authorization
header goes to `base_url` alone. A missing record is `NotFound`; every other failure raises something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import requests

from airflow_provider_qadzd.errors import Facts, FixFirst, TryLater
from airflow_provider_qadzd.records import Clock, SystemClock
from airflow_provider_qadzd.zendesk import wire
from airflow_provider_qadzd.zendesk.pace import Pace, refused, repeat, unanswered
from airflow_provider_qadzd.zendesk.resources import (
    Exports,
    Fields,
    Identities,
    Jobs,
    Memberships,
    Organizations,
    Params,
    Tickets,
    Tokens,
    Triggers,
    Users,
    Webhooks,
)
from airflow_provider_qadzd.zendesk.wire import Row


class ZendeskClient:
    """One Zendesk account. `timeout` is (connect, read) in seconds; `max_total_wait` bounds all waiting of one call.

    `base_url` comes from `base_url_of`; `session.auth` is a `ZendeskAuth`. Usable from a few threads at once.
    """

    def __init__(
        self,
        base_url: str,
        session: requests.Session,
        pace: Pace,
        clock: Clock = SystemClock(),  # noqa: B008 - stateless
        max_attempts: int = 4,
        max_total_wait: float = 60.0,
        timeout: tuple[float, float] = (10.0, 60.0),
    ) -> None:
        self.base_url, self._session, self._pace, self._clock = base_url.rstrip("/"), session, pace, clock
        self._max_attempts, self._max_total_wait, self._timeout = max_attempts, max_total_wait, timeout
        self.organizations, self.users, self.identities = Organizations(self), Users(self), Identities(self)
        self.memberships, self.jobs, self.exports = Memberships(self), Jobs(self), Exports(self)
        self.tickets, self.webhooks, self.triggers = Tickets(self), Webhooks(self), Triggers(self)
        self.fields, self.tokens = Fields(self), Tokens(self)

    def send(
        self, method: str, path: str, params: Params | None = None, body: Params | None = None,
        read: wire.Reader = wire.read_any,
    ) -> Row:  # fmt: skip
        """The JSON object that Zendesk answers; empty for an answer without a body. `path` is below `/api/v2`."""
        bounds = self._clock, self._max_attempts, self._max_total_wait
        return repeat(lambda: self._once(method, "/api/v2" + path, params, body, read), *bounds)

    def _once(self, method: str, path: str, params: Params | None, body: Params | None, read: wire.Reader) -> Row:
        self._pace.before(method, path)
        try:
            answer = self._session.request(
                method, self.base_url + path, params, headers={"Accept": "application/json"}, json=body,
                timeout=self._timeout, allow_redirects=False,
            )  # fmt: skip
        except requests.RequestException as error:
            raise unanswered(error, method, path, self.base_url) from None
        if 200 <= answer.status_code < 300:
            self._pace.after(method, path, answer.headers)
            return _object(answer, method, path, read)
        failure = wire.error_from(
            answer.status_code, answer.headers, answer.content, method, path,
            base_url=self.base_url, now=self._clock.time(),
        )  # fmt: skip
        self._pace.after(method, path, answer.headers, failure)
        raise refused(failure)

    # https://developer.zendesk.com/api-reference/introduction/pagination/#using-cursor-pagination
    def pages(self, path: str, rows: str, params: Params | None = None) -> Iterator[Row]:
        """Every row of a list, by cursor. TryLater if a cursor comes again, before its page is consumed."""
        place, seen = dict[str, Any]({"page[size]": wire.PAGE}), {""}
        while True:
            body = self.send("GET", path, {**(params or {}), **place})
            meta = body.get("meta") or {}
            after = (meta.get("after_cursor") or "") if meta.get("has_more") else None
            if after in seen or (not meta and body.get("next_page")):
                facts = Facts(system="zendesk", method="GET", path="/api/v2" + path, code="CursorRepeated")
                raise TryLater(f"The list of {rows} does not move on from page to page.", facts=facts)
            yield from body.get(rows) or ()
            if after is None:
                return
            place["page[after]"] = after
            seen.add(after)


def _object(answer: requests.Response, method: str, path: str, read: wire.Reader) -> Row:
    try:
        body = read(answer.content) if answer.content.strip() else {}
    except (msgspec.MsgspecError, ValueError, RecursionError):
        body = None
    if isinstance(body, dict):
        return body
    facts = Facts(system="zendesk", method=method, path=path, status=answer.status_code)
    raise FixFirst("The answer is not Zendesk's JSON.", advice=wire.ADDRESS, facts=facts)
