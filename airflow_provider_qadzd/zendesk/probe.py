"""One call that shows what answers at an address, before anything is asked of it.

Signed or not, Zendesk's `users/me` answers with JSON; a help centre, a host-mapped address or somebody else's server
answers with a redirect or a page. What the answer's head tells, the plan's limit and the time, is told on.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import requests

from airflow_provider_qadzd.errors import Facts, FixFirst
from airflow_provider_qadzd.records import Clock, SystemClock
from airflow_provider_qadzd.zendesk.pace import Again, unanswered
from airflow_provider_qadzd.zendesk.wire import ADDRESS, error_from, rate_limits

ME = "/api/v2/users/me"
TIMEOUT = (10.0, 20.0)


@dataclass(frozen=True, slots=True)
class Heard:
    """What an answer's head told: the plan's calls a minute, and how many seconds our clock is ahead of the server's.

    None for what it did not tell. The clocks are compared to within a second and half the call's duration.
    """

    limit: int | None = None
    ahead: float | None = None


# https://developer.zendesk.com/api-reference/ticketing/users/users/#show-self
def knock(base_url: str, session: requests.Session, clock: Clock = SystemClock(), *, signed: bool = False) -> Heard:  # noqa: B008
    """Ask once who we are, unsigned unless `signed`. Any JSON answer of an API that is there will do, a refusal too.

    Raises FixFirst for what is not the API of a Zendesk account, TryLater where nobody answers.
    """
    began = clock.time()
    nobody = None if signed else _unsigned
    try:
        answer = session.get(
            base_url + ME, headers={"Accept": "application/json"}, auth=nobody, timeout=TIMEOUT, allow_redirects=False
        )
    except requests.RequestException as error:
        failure = unanswered(error, "GET", ME, base_url)
        raise (failure.error if isinstance(failure, Again) else failure) from None
    ended = clock.time()
    _require_zendesk(answer, base_url, ended)
    at = _date(answer.headers.get("Date"))
    limit = rate_limits(answer.headers).get("requests")
    return Heard(limit.total if limit else None, None if at is None else (began + ended) / 2 - (at + 0.5))


def _unsigned(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """No Authorization header, not even from a .netrc file."""
    return request


def _require_zendesk(answer: requests.Response, base_url: str, now: float) -> None:
    status, facts = answer.status_code, Facts("zendesk", "GET", ME, answer.status_code)
    if 300 <= status < 400 or status == 404 or status >= 500:
        raise error_from(status, answer.headers, answer.content, "GET", ME, base_url=base_url, now=now)
    try:
        told = answer.json()
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise FixFirst(f"What answers at {base_url} is not Zendesk's API.", advice=ADDRESS, facts=facts)


def _date(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text or "").timestamp()
    except (TypeError, ValueError):
        return None
