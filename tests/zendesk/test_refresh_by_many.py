"""Several processes and one refresh token that can be used once: on both databases, over a socket, also when killed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from requests.adapters import HTTPAdapter

from airflow_provider_qadzd.errors import FixFirst, TryLater
from airflow_provider_qadzd.ledger import Ledger, identity
from airflow_provider_qadzd.ledger.vault import Secrets, Vault
from airflow_provider_qadzd.records import Lease, Token
from airflow_provider_qadzd.sandbox import Sandbox, running
from airflow_provider_qadzd.zendesk import oauth
from airflow_provider_qadzd.zendesk.oauth import ZendeskAuth
from airflow_provider_qadzd.zendesk.tokens import LEASE_SECONDS, TokenSource
from tests.zendesk.refresher import ACCOUNT, CALL, HOLDER, KEY, NAME, Ahead, person, plain_session, source_of

ASKED = "POST /oauth/tokens"
PROCESSES, EXPIRIES, SLOW_EVERY, SLOW = 4, 200, 67, 2.0
LIFE = 1800


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A small Zendesk without limits."""
    with running(customers=1, contacts=1, tickets=1) as served:
        served.post_control("limits", {"enabled": False})
        yield served


@pytest.fixture
def shared(sandbox: Sandbox, ledger_url: str) -> Iterator[Ledger]:
    """The ledger with the account's first token in it, by way of the consent page, and nothing counted yet."""
    ledger = Ledger(ledger_url, Ahead())
    assert identity.account_at(ledger, sandbox.url).account_id == ACCOUNT
    consent(sandbox, ledger)
    sandbox.post_control("reset-stats")
    yield ledger
    ledger.engine.dispose()


def consent(sandbox: Sandbox, ledger: Ledger) -> None:
    """Consent as a person gives it, and store the token."""
    client, verifier = person(sandbox.url), oauth.new_verifier()
    with plain_session() as browser:
        page = browser.get(oauth.authorization_url(client, "state", verifier), allow_redirects=False, timeout=5)
    [code] = parse_qs(urlsplit(page.headers["Location"]).query)["code"]
    source_of(ledger, client).exchange_code(code, verifier)


def kept(ledger: Ledger) -> Token:
    """The token as it is stored."""
    token = Secrets(ledger, Vault([KEY]), HOLDER).read(NAME)
    assert token is not None
    return token


def asked(sandbox: Sandbox) -> int:
    """How often a token was asked for."""
    return int(sandbox.get_control("stats")["calls"].get(ASKED, 0))


class Worker:
    """A process of `refresher`."""

    def __init__(self, role: str, sandbox: Sandbox, ledger_url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.zendesk.refresher", role, sandbox.url, ledger_url],
            cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def tell(self, ahead: float) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{ahead}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        assert self.process.wait(10) == -9

    def close(self) -> None:
        with self.process:
            self.process.kill()


@contextmanager
def workers(sandbox: Sandbox, ledger_url: str, *roles: str) -> Iterator[list[Worker]]:
    """Processes that are ready, and are gone afterwards."""
    with ExitStack() as stack:
        made = []
        for role in roles:
            made.append(Worker(role, sandbox, ledger_url))
            stack.callback(made[-1].close)
        for worker in made:
            assert worker.hear() == "ready"
        yield made


# -- four processes ----------------------------------------------------------------------------------------------------


def test_four_processes_refresh_once_per_expiry_and_hold_no_commit_up(
    sandbox: Sandbox, shared: Ledger, ledger_url: str, database: str, record_property: Callable[[str, object], None]
) -> None:
    """Each of 200 expiries costs one refresh and no call; deliveries are committed while a slow refresh is waited for.

    Every other token lapses by the clock; the rest are revoked, which a call finds out by its 401.
    """
    sandbox.post_control(
        "faults", {"match": ASKED, "action": "delay", "seconds": SLOW, "times": None, "every": SLOW_EVERY}
    )
    began = time.monotonic()
    slow: list[tuple[float, float]] = []
    with workers(sandbox, ledger_url, *["call"] * PROCESSES, "receive") as (*callers, receiver):
        for number in range(1, EXPIRIES + 1):
            expire(sandbox, by_clock=number % 2 == 0)
            since = time.monotonic()
            for caller in callers:
                caller.tell(number // 2 * LIFE)
            assert [caller.hear() for caller in callers] == ["200"] * PROCESSES
            if number % SLOW_EVERY == 0:
                slow.append((since, time.monotonic()))
        receiver.tell(0)
        commits = json.loads(receiver.hear())
    stats = sandbox.get_control("stats")
    longest = max(lasted for _, lasted in commits)
    meanwhile = [lasted for at, lasted in commits for since, until in slow if since < at < until]
    figures = {
        "database": database, "processes": PROCESSES, "expiries": EXPIRIES, "refreshes": asked(sandbox),
        "invalid_grants": stats["statuses"].get("400", 0), "commits": len(commits),
        "longest_commit_ms": round(longest * 1000), "slow_refresh_s": SLOW, "commits_during_slow": len(meanwhile),
        "longest_commit_during_slow_ms": round(max(meanwhile) * 1000), "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    record_property("refresh", json.dumps(figures))
    print(json.dumps(figures))
    assert asked(sandbox) == EXPIRIES
    assert set(stats["statuses"]) == {"200", "401"}
    assert kept(shared).version == 1 + EXPIRIES
    assert len(meanwhile) > 20
    assert longest < SLOW / 2


def expire(sandbox: Sandbox, *, by_clock: bool) -> None:
    """The access token dies: its time is over, or Zendesk has ended it early."""
    if by_clock:
        sandbox.post_control("clock", {"advance": LIFE})
    else:
        sandbox.post_control("tokens", {"expire": "access"})


def test_client_credentials_share_one_new_token(sandbox: Sandbox, ledger_url: str) -> None:
    """Unattended, too, a 401 that many meet costs one new token, and so does the first call of all."""
    client = replace(person(sandbox.url), grant="client_credentials", redirect_uri="")
    sources = [source_of(Ledger(ledger_url, Ahead()), client) for _ in range(PROCESSES)]
    with ThreadPoolExecutor(PROCESSES) as pool:
        for rounds in range(1, 4):
            assert list(pool.map(partial(signed, sandbox), sources)) == [200] * PROCESSES
            assert asked(sandbox) == rounds
            sandbox.post_control("tokens", {"expire": "access"})


def signed(sandbox: Sandbox, tokens: TokenSource) -> int:
    """One call signed with that token."""
    with plain_session() as session:
        session.auth = ZendeskAuth(sandbox.url, tokens)
        return session.get(sandbox.url + CALL, timeout=20).status_code


# -- killed ------------------------------------------------------------------------------------------------------------


def killed(sandbox: Sandbox, ledger_url: str, role: str) -> None:
    """A process whose token was refused, killed where its role says."""
    sandbox.post_control("tokens", {"expire": "access"})
    with workers(sandbox, ledger_url, role) as [worker]:
        worker.tell(0)
        assert worker.hear() == "stuck"
        worker.kill()


def get(sandbox: Sandbox, ledger: Ledger, **options: Any) -> int:
    """One signed call of a process that knows nothing but the ledger."""
    return signed(sandbox, source_of(ledger, person(sandbox.url), **options))


def after_the_lease(ledger: Ledger) -> None:
    """Let the dead one's lease lapse."""
    assert isinstance(ledger.clock, Ahead)
    ledger.clock.ahead += LEASE_SECONDS + 1


def test_killed_before_the_answer_was_stored(sandbox: Sandbox, shared: Ledger, ledger_url: str) -> None:
    """The spent token is tried once more, after the lease; then a person is asked, and Zendesk never again."""
    killed(sandbox, ledger_url, "stuck-after")
    assert asked(sandbox) == 1
    with pytest.raises(TryLater):
        get(sandbox, shared, patience=0.2)
    assert asked(sandbox) == 1
    after_the_lease(shared)
    for _ in range(3):
        with pytest.raises(FixFirst, match=r"connection zendesk_default: .* Open Connect .* `airflow qadzd connect"):
            get(sandbox, shared)
        assert asked(sandbox) == 2
    assert kept(shared).state == "connect_again"
    after_the_lease(shared)
    with workers(sandbox, ledger_url, *["call"] * PROCESSES) as callers:
        for caller in callers:
            caller.tell(0)
        assert all(caller.hear().startswith("FixFirst: connection zendesk_default") for caller in callers)
    assert asked(sandbox) == 2
    consent(sandbox, shared)
    assert get(sandbox, shared) == 200


@pytest.mark.parametrize("role", ["stuck-before", "stuck-after"])
def test_killed_and_the_old_token_still_works(sandbox: Sandbox, shared: Ledger, ledger_url: str, role: str) -> None:
    """Where the request never left, or never took effect at Zendesk, the next try heals everything."""
    sandbox.post_control("tokens", {"expire": "access"})
    before = deepcopy(sandbox.state.tokens)
    killed(sandbox, ledger_url, role)
    sandbox.state.tokens = before
    after_the_lease(shared)
    first = asked(sandbox)
    assert [get(sandbox, shared) for _ in range(3)] == [200] * 3
    assert asked(sandbox) == first + 1
    assert (kept(shared).state, kept(shared).version) == ("ok", 2)


# -- slower than the lease ---------------------------------------------------------------------------------------------


class Late(Secrets):
    """Stores a token only when it is allowed to."""

    def save(self, lease: Lease, token: Token) -> bool:
        ANSWERED.set()
        assert ALLOWED.wait(20)
        return super().save(lease, token)


class Slow(HTTPAdapter):
    """Asks for a token only once another has been given one."""

    def send(self, *args: Any, **options: Any) -> requests.Response:
        ASKING.set()
        assert ANSWERED.wait(20)
        return super().send(*args, **options)


ASKING, ANSWERED, ALLOWED = threading.Event(), threading.Event(), threading.Event()


@pytest.fixture
def late(shared: Ledger, ledger_url: str) -> Iterator[Ledger]:
    """The ledger of a second process, and nothing has happened yet."""
    for event in (ASKING, ANSWERED, ALLOWED):
        event.clear()
    second = Ledger(ledger_url, Ahead())
    yield second
    ALLOWED.set()
    second.engine.dispose()


def test_a_late_holders_token_ends_connect_again(sandbox: Sandbox, shared: Ledger, late: Ledger) -> None:
    """Whoever was slower than its lease still stores what it was given, and all go on with that without consent."""
    sandbox.post_control("tokens", {"expire": "access"})
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(get, sandbox, late, store=Late)
        assert ANSWERED.wait(20)
        after_the_lease(shared)
        with pytest.raises(FixFirst, match="Open Connect"):
            get(sandbox, shared)
        assert kept(shared).state == "connect_again"
        ALLOWED.set()
        assert slow.result(20) == 200
    assert (kept(shared).state, kept(shared).version) == ("ok", 2)
    assert get(sandbox, shared) == 200
    assert asked(sandbox) == 2


def test_who_lost_the_lease_and_is_refused_waits_for_its_successor(
    sandbox: Sandbox, shared: Ledger, late: Ledger
) -> None:
    """A refused refresh token means little to one whose lease another has taken over: that one's token is awaited."""
    sandbox.post_control("tokens", {"expire": "access"})
    with ThreadPoolExecutor(2) as pool:
        overtaken = pool.submit(get, sandbox, late, adapter=Slow())
        assert ASKING.wait(20)
        after_the_lease(shared)
        successor = pool.submit(get, sandbox, shared, store=Late)
        while asked(sandbox) < 2:
            time.sleep(0.01)
        time.sleep(0.2)
        ALLOWED.set()
        assert (overtaken.result(20), successor.result(20)) == (200, 200)
    assert (kept(shared).state, kept(shared).version) == ("ok", 2)
    assert asked(sandbox) == 2
