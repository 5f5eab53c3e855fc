"""The receiver: signed deliveries over a socket, each committed before its 202."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn
from cryptography.fernet import Fernet

from airflow_provider_qadzd.ledger import Ledger, identity, tickets
from airflow_provider_qadzd.ledger.vault import SIGNING, Secrets, Vault
from airflow_provider_qadzd.plugin.receiver import receiver_app
from airflow_provider_qadzd.zendesk.webhook import SIGNATURE, TIMESTAMP, sign
from tests.bench.measures import Measure, timed
from tests.bench.wiring import ledgers

COUNT, THREADS = 2_000, 4
SECRET, WEBHOOK = "a-secret-of-this-bench", "01BENCH"


def measure() -> list[Measure]:
    """Deliveries a second and the slowest hundredth, by database."""
    found = []
    with TemporaryDirectory() as folder, ledgers(Path(folder)) as opened:
        for name, ledger in opened.items():
            rate, p99 = _delivered(ledger)
            found.append(Measure("Receiver", f"deliveries committed in {name}", rate, "deliveries/s"))
            found.append(Measure("Receiver", f"slowest hundredth on {name}, from", p99 * 1000, "ms"))
    return found


def _delivered(ledger: Ledger) -> tuple[float, float]:
    """Deliveries a second, and the 99th percentile of seconds that one took."""
    vault = Vault([Fernet.generate_key().decode()])
    account = identity.account_at(ledger, "https://bench.zendesk.com")
    identity.note_onboarding(ledger, account.account_id, WEBHOOK)
    Secrets(ledger, vault, account.holder).put(f"{SIGNING}{WEBHOOK}", SECRET)
    parcels = [_parcel(number) for number in range(COUNT)]
    with _served(ledger, vault) as port, ThreadPoolExecutor(THREADS) as pool, timed() as watch:
        parts = [pool.submit(_post_all, port, account.slug, parcels[part::THREADS]) for part in range(THREADS)]
        took = sorted(seconds for part in parts for seconds in part.result())
        watch.stop()
    kept = len(tickets.pending_deliveries(ledger, account.account_id, COUNT + 1))
    if kept != COUNT:
        raise RuntimeError(f"{kept} of {COUNT} deliveries were committed")
    return COUNT / watch.seconds, took[int(COUNT * 0.99) - 1]


def _parcel(number: int) -> tuple[dict[str, str], bytes]:
    """One signed event of a ticket, made before the clock runs."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {
        "account_id": 1, "id": f"00000000-0000-4000-8000-{number:012d}", "subject": f"zen:ticket:{number + 1}",
        "detail": {"id": str(number + 1), "status": "OPEN", "subject": "Pump seal 40-118-7 leaks", "tags": ["qad"]},
        "event": {"current": "OPEN", "previous": "NEW"}, "time": now,
        "type": "zen:event-type:ticket.status_changed", "zendesk_event_version": "2022-11-06",
    }  # fmt: skip
    body = json.dumps(event, indent=2).encode()
    return {"Content-Type": "application/json", SIGNATURE: sign(SECRET, now, body), TIMESTAMP: now}, body


def _post_all(port: int, slug: str, parcels: list[tuple[dict[str, str], bytes]]) -> list[float]:
    """How long each took, over one connection that is kept."""
    connection, took = http.client.HTTPConnection("127.0.0.1", port, timeout=60), []
    for headers, body in parcels:
        started = time.perf_counter()
        connection.request("POST", f"/webhooks/zendesk/{slug}", body, headers)
        answer = connection.getresponse()
        answer.read()
        took.append(time.perf_counter() - started)
        if answer.status != 202:
            raise RuntimeError(f"the receiver answered {answer.status}")
    connection.close()
    return took


@contextmanager
def _served(ledger: Ledger, vault: Vault) -> Iterator[int]:
    """The receiver behind uvicorn, in a thread; its port."""
    logging.getLogger("airflow_provider_qadzd").setLevel(logging.ERROR)
    app = receiver_app(lambda: ledger, lambda: vault)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield int(bound.getsockname()[1])
        server.should_exit = True
        thread.join(10)
