"""The receiver behind its real server: what is answered, what is committed, and what a refusal costs."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
import requests
import uvicorn
from cryptography.fernet import Fernet

from airflow_provider_qadzd.ledger import Ledger, identity
from airflow_provider_qadzd.ledger.vault import SIGNING, Secrets, Vault
from airflow_provider_qadzd.plugin.receiver import LARGEST_BODY, receiver_app
from airflow_provider_qadzd.zendesk.webhook import TEST_SECRET, sign

SECRET = "a-signing-secret-of-the-account"


class Door:
    """A receiver with one onboarded account, and a way to knock at it."""

    def __init__(self, url: str, ledger: Ledger, slug: str) -> None:
        self.url, self.ledger, self.slug = url, ledger, slug

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
    with served(receiver_app(lambda: ledger, lambda: vault)) as url:
        yield Door(url, ledger, account.slug)


@contextlib.contextmanager
def served(app: object) -> Iterator[str]:
    """The app behind uvicorn on a free port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


def test_a_genuine_delivery_is_committed_before_its_202(door: Door) -> None:
    """202 means that the delivery is in the ledger, with what it says to fetch."""
    assert door.knock(event()) == 202
    assert door.inbox() == [("e1", "solved", 17, "pending")]


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"secret": "another secret"}, 401),
        ({"secret": TEST_SECRET}, 401),
        ({"at": -301.0}, 401),
        ({"at": 301.0}, 401),
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
    """A delivery signed with a secret that came after the last reading is taken, without a restart."""
    assert door.knock(event("first")) == 202
    vault = Vault([Fernet.generate_key().decode()])
    Secrets(door.ledger, vault, "account:1")  # another key: what it sealed could not be opened
    time.sleep(2.1)
    assert door.knock(event("second"), secret="another secret") == 401
    assert door.knock(event("third")) == 202


def test_forgeries_cost_no_query(door: Door) -> None:
    """A flood of forged requests reads the secrets no more than once in two seconds."""
    door.knock(event())
    queries: list[str] = []
    from sqlalchemy import event as sqlalchemy_event

    sqlalchemy_event.listen(
        door.ledger.engine, "before_cursor_execute", lambda _c, _x, statement, *_rest: queries.append(statement)
    )
    for n in range(50):
        assert door.knock(event(str(n)), secret="forged") == 401
    assert len(queries) <= 4


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
