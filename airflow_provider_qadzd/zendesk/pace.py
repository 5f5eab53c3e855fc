"""How fast and how often Zendesk is called.

`Pace` keeps within the account's budgets before a call and learns from each answer. `repeat` makes a call again while
that is safe and worth it, within bounds of attempts and of seconds waited. Both wait short in place and long as
TryLater. Nothing here makes a call itself.
"""

from __future__ import annotations

import random
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type

from airflow_provider_qadzd.errors import Facts, FixFirst, QadzdError, TryLater
from airflow_provider_qadzd.records import Budget, Clock, SystemClock
from airflow_provider_qadzd.zendesk.wire import rate_limits

Answer = TypeVar("Answer")

# A limit on one record or on jobs in flight: other calls need not wait for it.
_NOT_THE_ACCOUNT = ("TooManyJobs", "TooManyRequests")

_USED_UP = "BudgetUsedUp"

_REPEATED = (409, 429, 503)
_REPEATED_IF_SAFE = (502, 504, 520, 521, 522, 523, 524)


class Pace:
    """One account's pace. `max_wait` is how long, in seconds, a call may be held back in place."""

    def __init__(self, budget: Budget, clock: Clock = SystemClock(), max_wait: float = 15.0) -> None:  # noqa: B008
        self._budget, self._clock, self._max_wait = budget, clock, max_wait
        self._learnt: dict[str, int] = {}

    def before(self, method: str, path: str) -> None:
        """Take one call from every budget that applies, or raise TryLater with the seconds to wait."""
        left = self._max_wait
        for name in budgets(method, path):
            while wait := self._budget.take(name):
                if wait > left:
                    facts = Facts(system="zendesk", method=method, path=path, code=_USED_UP)
                    raise TryLater(f"Our budget of Zendesk calls ({name}) is used up.", wait=wait, facts=facts)
                left -= wait
                self._clock.sleep(wait)

    def after(self, method: str, path: str, headers: Mapping[str, str], failure: QadzdError | None = None) -> None:
        """Learn the limits that an answer tells; after a refusal for speed, hold back whatever it was about."""
        names, limits = budgets(method, path), rate_limits(headers)
        # Webhooks have a limit of their own, told in the account's header.
        if "/webhooks" not in path and (limit := limits.get("requests")):
            self._learn("requests", limit.total)
        if limit := limits.get("incremental-exports") or limits.get("incremental-exports-cursor"):
            self._learn("exports", limit.total)
        if isinstance(failure, TryLater) and failure.facts.status == 429 and failure.facts.code not in _NOT_THE_ACCOUNT:
            self._budget.block(names[-1], failure.wait)

    def _learn(self, name: str, limit: int | None) -> None:
        if limit and self._learnt.get(name) != limit:
            self._budget.learn(name, limit)
            self._learnt[name] = limit


# https://developer.zendesk.com/api-reference/introduction/rate-limits/#endpoint-rate-limits
def budgets(method: str, path: str) -> tuple[str, ...]:
    """The budgets that a call draws on, the narrowest last."""
    if "/incremental/" in path:
        return "requests", "exports"
    single_user = re.search(r"/users/\d+(\.json)?$", path) if method == "PUT" else None
    if single_user or path.endswith("/users/create_or_update"):
        return "requests", "user_updates"
    return ("requests",)


def calls_used_up(busy: TryLater) -> bool:
    """Whether a limit of calls is the reason, ours or Zendesk's: nothing is wrong, and waiting helps."""
    return busy.facts.status == 429 or busy.facts.code == _USED_UP


class Again(Exception):
    """An attempt that may be repeated at once; `error` is what to raise when no attempt is left."""

    def __init__(self, error: TryLater) -> None:
        self.error = error
        super().__init__(error)


def repeat(call: Callable[[], Answer], clock: Clock, max_attempts: int, max_total_wait: float) -> Answer:
    """`call()`, made again while it raises `Again` and the bounds allow; then the error inside is raised.

    A wait that would go past `max_total_wait`, counted from the first attempt, is not begun.
    """
    started = clock.time()

    def enough(state: RetryCallState) -> bool:
        late = clock.time() - started + state.upcoming_sleep > max_total_wait
        return late or state.attempt_number >= max_attempts

    attempts = Retrying(retry=retry_if_exception_type(Again), wait=_pause, stop=enough, sleep=clock.sleep, reraise=True)
    try:
        return attempts(call)
    except Again as again:
        raise again.error from None


def _pause(state: RetryCallState) -> float:
    """What was asked for and a little more, so that callers who were refused together do not return together."""
    failure = state.outcome.exception() if state.outcome else None
    wait = failure.error.wait if isinstance(failure, Again) else 0.0
    return wait + random.uniform(0.0, 0.5 + wait / 20)


def refused(failure: QadzdError) -> Exception:
    """What to raise for an answer that is an error: `Again` where the same call may be made again at once."""
    status, method = failure.facts.status, failure.facts.method
    repeated = status in _REPEATED or (status in _REPEATED_IF_SAFE and method != "POST")
    return Again(failure) if repeated and isinstance(failure, TryLater) else failure


def unanswered(error: requests.RequestException, method: str, path: str, base_url: str) -> Exception:
    """What to raise when no answer came: `Again` if the request was never sent, or if repeating it does no harm.

    A POST that was sent may have taken effect, so it is not repeated: TryLater(unanswered=True). The text of `error`
    is left out, since it holds the query.
    """
    facts = Facts(system="zendesk", method=method, path=path, code=type(error).__name__)
    causes = list(_causes(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        advice = "Check the host, and the proxy's certificate authority (REQUESTS_CA_BUNDLE)."
        return FixFirst(f"The certificate of {base_url} is not trusted.", advice=advice, facts=facts)
    if isinstance(error, ValueError):
        return FixFirst(f"{base_url} is not an address that can be called.", advice="Check the host.", facts=facts)
    if isinstance(error, (requests.ConnectTimeout, requests.exceptions.ProxyError)) or any(
        isinstance(cause, (ConnectionRefusedError, socket.gaierror)) for cause in causes
    ):
        return Again(TryLater(f"{base_url} cannot be reached.", wait=5.0, facts=facts))
    lost = TryLater("The answer from Zendesk got lost.", wait=2.0, unanswered=method != "GET", facts=facts)
    return lost if method == "POST" else Again(lost)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it wraps and what it came from; `requests` wraps in its arguments, urllib3 in `reason`."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        cause = waiting.pop()
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            waiting += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
