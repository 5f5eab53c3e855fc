"""Calls are held back before Zendesk has to refuse them, and repeated only within bounds."""

from __future__ import annotations

import pytest

from airflow_provider_qadzd.errors import Facts, FixFirst, TryLater
from airflow_provider_qadzd.zendesk.pace import Again, Pace, budgets, repeat
from tests.zendesk.fakes import FakeClock, MemoryBudget


def limited(code: str = "", wait: float = 30.0, status: int = 429) -> TryLater:
    """What a refusal for speed becomes."""
    return TryLater("slow down", wait=wait, facts=Facts(status=status, code=code))


@pytest.mark.parametrize(
    ("method", "path", "names"),
    [
        pytest.param("GET", "/api/v2/users/5", ("requests",), id="any read"),
        pytest.param("GET", "/api/v2/incremental/tickets/cursor", ("requests", "exports"), id="export"),
        pytest.param("PUT", "/api/v2/users/5", ("requests", "user_updates"), id="one user"),
        pytest.param("PUT", "/api/v2/users/5.json", ("requests", "user_updates"), id="one user, with suffix"),
        pytest.param("POST", "/api/v2/users/create_or_update", ("requests", "user_updates"), id="one user, either way"),
        pytest.param("PUT", "/api/v2/users/update_many", ("requests",), id="many users"),
        pytest.param("PUT", "/api/v2/users/5/identities/6/make_primary", ("requests",), id="an identity"),
        pytest.param("POST", "/api/v2/users", ("requests",), id="a new user"),
    ],
)
def test_a_call_draws_on_the_budgets_that_apply(method: str, path: str, names: tuple[str, ...]) -> None:
    """The account's limit applies to every call; exports and single user updates have one more."""
    assert budgets(method, path) == names


@pytest.mark.parametrize(("wait", "held"), [(14.9, True), (15.0, True), (15.1, False)])
def test_a_short_wait_is_spent_in_place_and_a_long_one_is_told(wait: float, held: bool) -> None:
    """Up to `max_wait` seconds the call is held back; beyond that TryLater says how long."""
    clock = FakeClock()
    budget = MemoryBudget(clock)
    budget.block("requests", wait)
    pace = Pace(budget, clock, max_wait=15)
    if held:
        pace.before("GET", "/x")
        assert clock.slept == [pytest.approx(wait)]
    else:
        with pytest.raises(TryLater) as error:
            pace.before("GET", "/x")
        assert error.value.wait == pytest.approx(wait)
        assert clock.slept == []


def test_the_waits_of_one_call_are_bounded_together() -> None:
    """Ten seconds for one budget leave five for the next."""
    clock = FakeClock()
    budget = MemoryBudget(clock)
    budget.block("requests", 10)
    budget.block("exports", 16)
    with pytest.raises(TryLater) as error:
        Pace(budget, clock, max_wait=15).before("GET", "/api/v2/incremental/users/cursor")
    assert error.value.wait == pytest.approx(6.0)
    assert clock.slept == [pytest.approx(10.0)]


def test_limits_are_learnt_once() -> None:
    """A limit goes to the budget when it is first told and when it changes, not with every answer."""
    budget = MemoryBudget(FakeClock())
    pace = Pace(budget)
    for total in ("700", "700", "400"):
        pace.after("GET", "/api/v2/users/5", {"X-Rate-Limit": total})
    pace.after(
        "GET", "/api/v2/incremental/users/cursor", {"zendesk-ratelimit-incremental-exports": "total=10; resets=1"}
    )
    pace.after("GET", "/api/v2/webhooks", {"X-Rate-Limit": "100"})
    assert budget.learnt == [("requests", 700), ("requests", 400), ("exports", 10)]


@pytest.mark.parametrize(
    ("path", "failure", "blocked"),
    [
        pytest.param("/api/v2/users/5", limited(), ["requests"], id="the account's limit"),
        pytest.param("/api/v2/incremental/users", limited("APIRateLimitExceeded"), ["exports"], id="exports"),
        pytest.param("/api/v2/users/create_many", limited("TooManyJobs"), [], id="jobs"),
        pytest.param("/api/v2/organizations/5", limited("TooManyRequests"), [], id="one organization"),
        pytest.param("/api/v2/users/5", limited(status=503), [], id="not for speed"),
        pytest.param("/api/v2/users/5", FixFirst("no"), [], id="no refusal for a moment"),
        pytest.param("/api/v2/users/5", None, [], id="no refusal"),
    ],
)
def test_a_refusal_for_speed_holds_back_what_it_was_about(
    path: str, failure: TryLater | FixFirst | None, blocked: list[str]
) -> None:
    """The narrowest budget of the call is blocked; a limit on one record or on jobs blocks no budget."""
    budget = MemoryBudget(FakeClock())
    Pace(budget).after("GET", path, {}, failure)
    assert list(budget.blocked) == blocked


@pytest.mark.parametrize(
    ("waits", "attempts"),
    [
        pytest.param([1.0], 2, id="once more"),
        pytest.param([1.0, 1.0, 1.0], 4, id="as often as allowed"),
        pytest.param([1.0, 1.0, 1.0, 1.0], 4, id="not more often"),
        pytest.param([61.0], 1, id="a wait past the bound is not begun"),
        pytest.param([40.0, 40.0], 2, id="waits add up"),
    ],
)
def test_repetition_is_bounded_in_attempts_and_in_seconds(waits: list[float], attempts: int) -> None:
    """The error of the last attempt is raised once either bound is met."""
    clock, made, left = FakeClock(), [], list(waits)

    def call() -> str:
        made.append(clock.time())
        if left:
            raise Again(limited(wait=left.pop(0)))
        return "done"

    if attempts > len(waits):
        assert repeat(call, clock, 4, 60.0) == "done"
    else:
        with pytest.raises(TryLater, match="slow down"):
            repeat(call, clock, 4, 60.0)
    assert len(made) == attempts
    for slept, wait in zip(clock.slept, waits, strict=False):
        assert wait <= slept <= wait * 1.05 + 0.5
