"""Call budgets: no minute holds more calls than the limit, whoever makes them."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.ledger.budget import LedgerBudget
from tests.conftest import SetClock


def busiest_minute(calls: list[float]) -> int:
    """The most calls that any sixty seconds hold."""
    return max(sum(1 for other in calls if start <= other < start + 60) for start in calls)


@pytest.mark.parametrize(
    ("name", "limit", "least", "most"),
    [("requests", 140, 60, 65), ("exports", 10, 60, 62), ("user_updates", 1, 1, 1.2)],
)
def test_a_window_holds_the_limit_and_no_more(
    ledger: Ledger, clock: SetClock, name: str, limit: int, least: float, most: float
) -> None:
    """All calls of the limit are had at once, the next one when the first is a window old, and a little more."""
    budget = LedgerBudget(ledger, 1)
    assert [budget.take(name) for _ in range(limit)] == [0.0] * limit
    wait = budget.take(name)
    assert least <= wait <= most
    clock.sleep(wait - 0.01)
    assert budget.take(name) > 0
    clock.sleep(0.01)
    assert budget.take(name) == 0.0


@pytest.mark.parametrize(("name", "limit"), [("requests", 30), ("requests", 3), ("exports", 10)])
def test_processes_together_keep_within_the_limit_in_any_minute(
    open_ledger: Callable[[], Ledger], clock: SetClock, name: str, limit: int
) -> None:
    """Three processes that call whenever they may, at any time, never make more calls than the limit in any minute."""
    budgets = [LedgerBudget(open_ledger(), 1, share=1.0) for _ in range(3)]
    budgets[0].learn(name, limit)
    chance = random.Random(7)
    calls: list[float] = []
    for _ in range(400):
        clock.sleep(chance.choice([0.0, 0.1, 1.0, 4.9]))
        if chance.choice(budgets).take(name) == 0.0:
            calls.append(clock.time())
    assert len(calls) > limit
    assert busiest_minute(calls) <= limit


def test_processes_at_the_same_moment_keep_within_the_limit(open_ledger: Callable[[], Ledger]) -> None:
    """Calls asked for by many processes and threads at once are counted once each."""
    budgets = [LedgerBudget(open_ledger(), 1) for _ in range(4)]
    with ThreadPoolExecutor(8) as threads:
        exports = list(threads.map(lambda n: budgets[n % 4].take("exports"), range(40)))
        requests = list(threads.map(lambda n: budgets[n % 4].take("requests"), range(200)))
    assert exports.count(0.0) == 10
    assert requests.count(0.0) == 140


def test_ordinary_requests_are_taken_in_blocks(ledger: Ledger, clock: SetClock) -> None:
    """Ten calls cost one transaction; what is left of a block lapses after five seconds, and counts as made."""
    one, other = LedgerBudget(ledger, 1, share=1.0), LedgerBudget(ledger, 1, share=1.0)
    one.learn("requests", 13)
    assert [one.take("requests") for _ in range(2)] == [0.0, 0.0]
    assert [other.take("requests") for _ in range(2)] == [0.0, 0.0]
    assert other.take("requests") == 60.0
    assert [one.take("requests") for _ in range(9)] == [0.0] * 9
    assert one.take("requests") > 0
    clock.sleep(65)
    assert [one.take("requests") for _ in range(2)] == [0.0, 0.0]
    clock.sleep(5)
    assert [one.take("requests") for _ in range(2)] == [0.0, 0.0]
    assert one.take("requests") > 0


def test_who_calls_now_and_then_takes_nothing_that_it_does_not_use(ledger: Ledger, clock: SetClock) -> None:
    """A call a second or less costs the account one call each, since nothing is taken that would lapse."""
    budget = LedgerBudget(ledger, 1, share=1.0)
    budget.learn("requests", 30)
    assert [budget.take("requests") or clock.sleep(2.0) for _ in range(30)] == [None] * 30


def test_the_calls_of_a_block_count_as_made_when_it_lapses(ledger: Ledger, clock: SetClock) -> None:
    """A block may be used up until it lapses, so its minute begins then."""
    budget = LedgerBudget(ledger, 1, share=1.0)
    budget.learn("requests", 11)
    assert [budget.take("requests") for _ in range(2)] == [0.0, 0.0]
    clock.sleep(4.9)
    assert [budget.take("requests") for _ in range(9)] == [0.0] * 9
    clock.sleep(55.2)
    assert budget.take("requests") == 0.0
    clock.sleep(4.85)
    assert 0 < budget.take("requests") < 0.1
    clock.sleep(0.05)
    assert budget.take("requests") == 0.0


def test_several_calls_are_taken_whole_or_not_at_all(ledger: Ledger) -> None:
    """What does not fit takes nothing, and what can never fit is never had."""
    budget = LedgerBudget(ledger, 1)
    assert budget.take("exports", 7) == 0.0
    assert budget.take("exports", 4) == 61.0
    assert budget.take("exports", 3) == 0.0
    assert LedgerBudget(ledger, 2).take("exports", 11) == 61.0


def test_a_refusal_for_speed_holds_everybody_back(open_ledger: Callable[[], Ledger], clock: SetClock) -> None:
    """A block lasts as long as the server said, for all processes, and a shorter one does not end it."""
    here, there = LedgerBudget(open_ledger(), 1), LedgerBudget(open_ledger(), 1)
    here.take("requests")
    here.block("requests", 30)
    there.block("requests", 5)
    assert (here.take("requests"), there.take("requests"), there.take("exports")) == (30.0, 30.0, 0.0)
    assert LedgerBudget(open_ledger(), 2).take("requests") == 0.0
    clock.sleep(30)
    assert here.take("requests") == there.take("requests") == 0.0


@pytest.mark.parametrize(
    ("name", "told", "ours"),
    [
        pytest.param("requests", 400, 280, id="a share of the requests"),
        pytest.param("exports", 30, 30, id="all of the exports"),
        pytest.param("requests", 1, 1, id="at least one"),
    ],
)
def test_the_servers_limit_is_learnt(open_ledger: Callable[[], Ledger], name: str, told: int, ours: int) -> None:
    """A limit that one process was told holds for all, and forgets nothing of what was spent."""
    here, there = LedgerBudget(open_ledger(), 1), LedgerBudget(open_ledger(), 1)
    spent = 0 if there.take(name) else 1
    here.learn(name, told)
    here.learn(name, told)
    while there.take(name) == 0.0 or here.take(name) == 0.0:
        spent += 1
    assert spent == ours


@pytest.mark.parametrize(
    ("told", "alone", "beside"),
    [
        pytest.param(10, 6, 10, id="ten a minute"),
        pytest.param(30, 18, 30, id="high volume"),
        pytest.param(1, 1, 1, id="one"),
    ],
)
def test_who_leaves_calls_to_others_takes_none_of_those(
    open_ledger: Callable[[], Ledger], told: int, alone: int, beside: int
) -> None:
    """Reading the past stops at its part of a minute's exports, and live runs have all the rest at once."""
    past, live = LedgerBudget(open_ledger(), 1, leave={"exports": 0.4}), LedgerBudget(open_ledger(), 1)
    live.learn("exports", told)
    taken = [past.take("exports") for _ in range(told)].count(0.0)
    assert taken == alone
    assert taken + [live.take("exports") for _ in range(told)].count(0.0) == beside
    assert 0 < past.take("exports") <= 61
