"""The receiver behind its real server: what is answered, what is committed, and what a refusal costs."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import pytest
import requests
from cryptography.fernet import Fernet
from sqlalchemy.event import listen

from airflow_provider_qadzd.errors import TryLater
from airflow_provider_qadzd.ledger import Ledger, identity, tickets
from airflow_provider_qadzd.ledger.vault import SIGNING, Secrets, Vault
from airflow_provider_qadzd.plugin import group_commit
from airflow_provider_qadzd.plugin.receiver import LARGEST_BODY, receiver_app
from airflow_provider_qadzd.zendesk.webhook import TEST_SECRET, sign
from tests.serving import served

SECRET = "a-signing-secret-of-the-account"


class Door:
    """A receiver with one onboarded account, and a way to knock at it."""

    def __init__(self, url: str, ledger: Ledger, slug: str, vault: Vault | None = None) -> None:
        self.url, self.ledger, self.slug = url, ledger, slug
        self.vault = vault or Vault([Fernet.generate_key().decode()])
        self.secrets = Secrets(ledger, self.vault, "account:1")

    def knock(
        self, body: bytes, *, secret: str = SECRET, at: float | None = None, slug: str = "",
        kind: str = "application/json",
    ) -> int:  # fmt: skip
        """The status of one signed delivery."""
        moment = datetime.fromtimestamp(time.time() if at is None else at, timezone.utc)
        stamp = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        return requests.post(
            f"{self.url}/webhooks/zendesk/{slug or self.slug}", data=body, timeout=10,
            headers={
                "Content-Type": kind, "X-Zendesk-Webhook-Signature": sign(secret, stamp, body),
                "X-Zendesk-Webhook-Signature-Timestamp": stamp,
            },
        ).status_code  # fmt: skip

    def inbox(self) -> list[tuple[object, ...]]:
        """What was committed, oldest first."""
        with contextlib.closing(sqlite3.connect(str(self.ledger.engine.url.database))) as file:
            rows = file.execute("SELECT payload_id, kind, ticket_id, inbox_state FROM qadzd_inbox ORDER BY delivery_id")
            return rows.fetchall()


def event(payload_id: str = "e1", ticket: int = 17) -> bytes:
    """An event-subscribed body, printed over several lines as Zendesk prints it."""
    return json.dumps(
        {
            "id": payload_id,
            "type": "zen:event-type:ticket.status_changed",
            "time": "2026-01-01T00:00:00Z",
            "subject": f"zen:ticket:{ticket}",
            "detail": {"id": str(ticket)},
            "event": {"current": "SOLVED", "previous": "OPEN"},
        },
        indent=2,
    ).encode()


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """A served receiver with a fresh ledger."""
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db").opened()
    vault = Vault([Fernet.generate_key().decode()])
    account = identity.account_at(ledger, "https://acme.zendesk.com")
    identity.note_onboarding(ledger, account.account_id, "w1")
    Secrets(ledger, vault, account.holder).put(f"{SIGNING}w1", SECRET)
    with served(receiver_app(lambda: ledger, lambda: vault, metrics=True)) as url:
        yield Door(url, ledger, account.slug, vault)


def test_a_genuine_delivery_is_committed_before_its_202(door: Door) -> None:
    """202 means that the delivery is in the ledger, with what it says to fetch."""
    assert door.knock(event()) == 202
    assert door.inbox() == [("e1", "solved", 17, "pending")]


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"secret": "another secret"}, 401),
        ({"secret": TEST_SECRET}, 401),
        ({"at": -330.0}, 401),
        ({"at": 330.0}, 401),
        ({"slug": "nobody"}, 401),
        ({"kind": "text/plain"}, 415),
        ({"body": b"not json"}, 415),
        ({"body": b"x" * (LARGEST_BODY + 1)}, 413),
    ],
    ids=[
        "forged", "signed with the public test secret", "too old", "too new", "an unknown account", "not called json",
        "not json", "too large",
    ],
)  # fmt: skip
def test_what_is_not_believed_is_refused_and_not_stored(door: Door, given: dict[str, object], status: int) -> None:
    """Every refusal leaves the inbox empty; the sender is not told why a signature does not do."""
    if "at" in given:
        given = {**given, "at": time.time() + float(str(given["at"]))}
    body = given.pop("body", event()) if "body" in given else event()
    assert door.knock(body, **given) == status  # type: ignore[arg-type]
    assert door.inbox() == []


def test_an_unsigned_request_is_refused(door: Door) -> None:
    """No signature header is the same 401."""
    where = f"{door.url}/webhooks/zendesk/{door.slug}"
    answer = requests.post(where, data=event(), headers={"Content-Type": "application/json"}, timeout=10)
    assert (answer.status_code, answer.text) == (401, "")


def test_a_repeated_payload_is_taken_once(door: Door) -> None:
    """The same signed payload id again is answered 202 and dropped."""
    assert [door.knock(event("same")), door.knock(event("same"))] == [202, 202]
    assert len(door.inbox()) == 1


def test_a_delivery_that_cannot_be_read_is_kept_for_the_drain_to_set_aside(door: Door) -> None:
    """A genuine body about no ticket is stored: nothing that was signed is thrown away at the door."""
    assert door.knock(b'{"id": "odd", "type": "zen:event-type:user.created"}') == 202
    assert door.inbox() == [("odd", "unknown", None, "pending")]


def test_a_secret_stored_later_is_found(door: Door) -> None:
    """A delivery signed with a secret that came after the last reading is taken without a restart; a forged one not."""
    assert door.knock(event("first")) == 202
    door.secrets.put(f"{SIGNING}w2", "another secret")
    time.sleep(2.1)
    assert door.knock(event("second"), secret="a third secret") == 401
    assert door.knock(event("third"), secret="another secret") == 202


def test_while_a_webhook_is_replaced_both_secrets_open_the_door(door: Door) -> None:
    """Any of an account's secrets will do, until it is dropped from the vault."""
    door.secrets.put(f"{SIGNING}w2", "another secret")
    assert [door.knock(event("a")), door.knock(event("b"), secret="another secret")] == [202, 202]
    door.secrets.forget(f"{SIGNING}w1")
    time.sleep(2.1)
    assert door.knock(event("c"), secret="forged") == 401  # reads them again
    assert [door.knock(event("d")), door.knock(event("e"), secret="another secret")] == [401, 202]


def test_several_accounts_have_a_door_each(door: Door) -> None:
    """The path names the account; one account's secret does not open another's door, and ids are each account's own."""
    other = identity.account_at(door.ledger, "https://other.zendesk.com")
    identity.note_onboarding(door.ledger, other.account_id, "w2")
    Secrets(door.ledger, door.vault, other.holder).put(f"{SIGNING}w2", "their secret")
    assert door.knock(event("same")) == 202
    assert door.knock(event("same"), slug=other.slug, secret="their secret") == 202
    assert door.knock(event("x"), slug=other.slug) == 401
    assert door.knock(event("y"), secret="their secret") == 401
    assert len(door.inbox()) == 2


def test_forgeries_cost_no_query(door: Door) -> None:
    """A hundred forged, stale, unsigned and misdirected requests: at most one reading of the secrets, and no more."""
    door.knock(event())
    time.sleep(2.1)
    queries: list[str] = []
    listen(door.ledger.engine, "before_cursor_execute", lambda _c, _x, statement, *_rest: queries.append(statement))
    for n in range(25):
        assert door.knock(event(str(n)), secret="forged") == 401
        assert door.knock(event(str(n)), at=1.0) == 401
        assert door.knock(event(str(n)), slug=f"nobody-{n}") == 401
        assert requests.post(f"{door.url}/webhooks/zendesk/x", json={}, timeout=10).status_code == 401
    readings = sum("qadzd_account" in query for query in queries)
    assert readings <= 2, "one, and another one if all that took longer than two seconds"
    assert len([query for query in queries if not query.startswith("BEGIN")]) == 2 * readings


def test_what_it_did_is_counted_and_logged_without_bodies(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    """Counters by account and outcome; a line for each delivery; of refusals one line for many; nothing of a body."""
    with caplog.at_level(logging.DEBUG):
        door.knock(event("counted"))
        door.knock(event("counted"))
        for n in range(20):
            door.knock(b'{"secret words": 1}', secret="forged")
            door.knock(event(f"{n}"), slug=f"stranger-{n}")
    text = requests.get(f"{door.url}/metrics", timeout=10).text
    for line in (
        'qadzd_receiver_requests_total{account="acme",outcome="taken"} 1',
        'qadzd_receiver_requests_total{account="acme",outcome="repeated"} 1',
        'qadzd_receiver_requests_total{account="acme",outcome="forged"} 20',
        'qadzd_receiver_requests_total{account="unknown",outcome="no_secret"} 20',
        'qadzd_receiver_seconds_count{outcome="forged"} 20',
        "qadzd_receiver_waiting 0",
    ):
        assert line in text.splitlines()
    told = [record.getMessage() for record in caplog.records if record.name == "airflow_provider_qadzd.receiver"]
    assert [line.rsplit(" ms=")[0] for line in told] == [
        "delivery account=acme outcome=taken ticket=17 kind=solved id=counted",
        "delivery account=acme outcome=repeated ticket=17 kind=solved id=counted",
        "delivery account=acme outcome=forged times=1 ",
        "delivery account=unknown outcome=no_secret times=1 ",
    ]
    assert "secret words" not in caplog.text
    assert "stranger" not in " ".join(told)


def test_a_body_that_does_not_come_is_not_waited_for(door: Door) -> None:
    """Who announces a body and sends it drop by drop is answered 408 after five seconds, and holds up nobody."""
    host, port = door.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as slow:
        head = f"POST /webhooks/zendesk/{door.slug} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{"
        slow.sendall(head.encode())
        assert door.knock(event()) == 202
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_a_locked_ledger_is_503_in_time_and_the_repeat_is_stored_once(door: Door) -> None:
    """While another process holds the ledger, Zendesk is told in time to come again; then it is there once."""
    assert door.knock(event("before")) == 202
    with contextlib.closing(sqlite3.connect(str(door.ledger.engine.url.database), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        assert door.knock(event("locked-out")) == 503
        assert time.monotonic() - began < 12
        assert door.knock(event("forged"), secret="forged") == 401
        other.execute("ROLLBACK")
    assert door.knock(event("locked-out")) == 202
    assert [row[0] for row in door.inbox()] == ["before", "locked-out"]


def test_ready_is_not_alive(door: Door) -> None:
    """With a key that opens nothing any more it lives and is not ready; why, its log says and its answer does not."""
    assert requests.get(f"{door.url}/health/ready", timeout=10).json() == {"ready": True}
    Secrets(door.ledger, Vault([Fernet.generate_key().decode()]), "account:1").put(f"{SIGNING}w1", SECRET)
    time.sleep(2.1)
    answer = requests.get(f"{door.url}/health/ready", timeout=10)
    assert (answer.status_code, answer.json()) == (503, {"ready": False})
    assert requests.get(f"{door.url}/health/live", timeout=10).status_code == 200


def test_one_row_that_the_database_does_not_take_spoils_no_other() -> None:
    """Where a group cannot be stored, each is tried alone: the bad one is to come again, the others are in."""
    taken: list[object] = []

    def store(_ledger: object, rows: Sequence[Mapping[str, object]]) -> list[bool]:
        if any(row["ticket_id"] == 13 for row in rows):
            raise ValueError("13")
        taken.extend(row["ticket_id"] for row in rows)
        return [True] * len(rows)

    outcomes = group_commit.stored(None, [{"ticket_id": number} for number in (12, 13, 14)], store)  # type: ignore[arg-type]
    assert [isinstance(one, TryLater) for one in outcomes] == [False, True, False]
    assert taken == [12, 14]


@contextlib.contextmanager
def receiver_process(url: str, key: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A receiver in a process of its own, and its port."""
    command = [sys.executable, "-m", "tests.bench.door", "receiver", url, key]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_killed_under_load_nothing_acknowledged_is_lost(ledger: Ledger, ledger_url: str) -> None:
    """SIGKILL while eight senders deliver, three times: every delivery that was answered 202 is in the ledger, once."""
    key = Fernet.generate_key().decode()
    account = identity.account_at(ledger, "https://acme.zendesk.com")
    identity.note_onboarding(ledger, account.account_id, "w1")
    Secrets(ledger, Vault([key]), account.holder).put(f"{SIGNING}w1", SECRET)
    acknowledged: list[str] = []
    for life in range(3):
        with receiver_process(ledger_url, key) as (process, port), ThreadPoolExecutor(8) as senders:
            door = Door(f"http://127.0.0.1:{port}/qadzd", ledger, account.slug)

            def deliver(sender: int, door: Door = door, life: int = life) -> None:
                with contextlib.suppress(requests.ConnectionError):
                    for number in itertools.count():
                        name = f"{life}-{sender}-{number}"
                        if door.knock(event(name)) == 202:
                            acknowledged.append(name)

            sent = [senders.submit(deliver, sender) for sender in range(8)]
            until, enough = time.monotonic() + 30, len(acknowledged) + 60
            while len(acknowledged) < enough:
                assert time.monotonic() < until, "the receiver does not get that far"
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            for one in sent:
                one.result()
    kept = [row.payload_id for row in tickets.pending_deliveries(ledger, account.account_id, 100_000)]
    assert len(acknowledged) >= 180
    assert set(acknowledged) <= set(kept)
    assert len(set(kept)) == len(kept)


def test_without_a_ledger_the_answer_is_503_and_a_short_wait(tmp_path: Path) -> None:
    """A ledger that is away makes Zendesk try again: it repeats a 503 that asks for less than a minute."""
    folder = tmp_path / "not-a-folder"
    folder.write_text("")
    vault = Vault([Fernet.generate_key().decode()])

    def broken() -> Ledger:
        from airflow_provider_qadzd.errors import TryLater

        raise TryLater("The ledger is locked or away.")

    with served(receiver_app(broken, lambda: vault)) as url:
        answer = requests.post(
            f"{url}/webhooks/zendesk/acme", data=event(), headers={"Content-Type": "application/json"}, timeout=10
        )
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
        assert requests.get(f"{url}/health/ready", timeout=10).status_code == 503
        assert requests.get(f"{url}/health/live", timeout=10).status_code == 200


def test_without_a_vault_key_nothing_is_taken(tmp_path: Path) -> None:
    """No key, no signing secret: the door stays shut, and says so only to its own log."""
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db").opened()
    with served(receiver_app(lambda: ledger, lambda: Vault([]))) as url:
        assert Door(url, ledger, "acme").knock(event()) == 503


def test_it_runs_alone_with_only_the_ledger_and_its_key(tmp_path: Path) -> None:
    """`airflow qadzd receiver` serves with nothing but the ledger's address and the receiver key, on SIGINT it ends."""
    key = Fernet.generate_key().decode()
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger = Ledger(url).opened()
    account = identity.account_at(ledger, "https://acme.zendesk.com")
    identity.note_onboarding(ledger, account.account_id, "w1")
    Secrets(ledger, Vault([key]), account.holder).put(f"{SIGNING}w1", SECRET)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "airflow"), "qadzd", "receiver", "--port", str(port)]
    environment = {
        "QADZD_LEDGER_URL": url, "QADZD_RECEIVER_KEYS": key, "AIRFLOW_HOME": str(tmp_path / "home"), "PATH": "/usr/bin",
        "AIRFLOW__CORE__FERNET_KEY": "", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/nobody.db",
    }  # fmt: skip
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            door = Door(f"http://127.0.0.1:{port}/qadzd", ledger, account.slug)
            for _ in range(300):
                with contextlib.suppress(requests.ConnectionError):
                    if requests.get(f"{door.url}/health/ready", timeout=5).status_code == 200:
                        break
                assert process.poll() is None, process.stderr and process.stderr.read().decode()
                time.sleep(0.1)
            assert door.knock(event()) == 202
            assert door.knock(event("x"), secret="forged") == 401
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)
    assert door.inbox() == [("e1", "solved", 17, "pending")]
