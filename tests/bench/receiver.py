"""The receiver over a socket: each delivery committed before its 202, beside an app that does nothing; and a flood."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import requests
from cryptography.fernet import Fernet

from airflow_provider_qadzd.ledger import Ledger, identity, tickets
from airflow_provider_qadzd.ledger.vault import SIGNING, Secrets, Vault
from airflow_provider_qadzd.zendesk.webhook import SIGNATURE, TIMESTAMP, sign
from tests.bench.knocking import Answers, knock, request
from tests.bench.measures import Measure
from tests.bench.wiring import ledgers

COUNT, CONNECTIONS, ROUNDS = 8_000, 32, 2
"""So many that one stall of the disk, which every connection waits for, is not by itself the slowest hundredth."""
FORGERS, FLOOD_SECONDS, GENUINE_EVERY = 16, 6.0, 0.05
RATE, P99, IN_A_FLOOD = 800.0, 250.0, 1000.0
KEY = Fernet.generate_key().decode()
SECRET, WEBHOOK = "a-secret-of-this-bench", "01BENCH"


def measure() -> list[Measure]:
    """Deliveries a second and the slowest hundredth, by database, and what whoever knocks could do at most."""
    parcels = _parcels("nobody", 0)
    floor, nothing = _best("bare", parcels), _best("nothing", parcels)
    found = [
        Measure("Receiver", "knocking at a server without HTTP", floor, "answers/s"),
        Measure("Receiver", "an app that does nothing", nothing, "answers/s"),
    ]
    with TemporaryDirectory() as folder, ledgers(Path(folder)) as opened:
        for name, ledger in opened.items():
            slug = _onboarded(ledger)
            with _door("receiver", _url(ledger), KEY) as port:
                before = _asked(port)["seconds"]
                answers = max((_delivered(port, ledger, slug, n) for n in range(ROUNDS)), key=lambda one: one.rate)
                each = (_asked(port)["seconds"] - before) / (ROUNDS * COUNT)
                found += [
                    Measure("Receiver", f"committed in {name}", answers.rate, "deliveries/s", RATE, at_least=True),
                    Measure("Receiver", f"the slowest hundredth on {name}", answers.slowest(0.01) * 1000, "ms", P99),
                    Measure("Receiver", f"processor time for each on {name}", each * 1000, "ms"),
                    Measure("Receiver", f"{name}, of the app that does nothing", answers.rate / nothing, "ratio"),
                ]
                found += _flooded(f"Receiver in a flood of forgeries, on {name}", port, slug)
    return found


def _best(kind: str, parcels: list[bytes]) -> float:
    with _door(kind) as port:
        return max(knock(port, parcels, CONNECTIONS).rate for _ in range(ROUNDS))


def _delivered(port: int, ledger: Ledger, slug: str, number: int) -> Answers:
    """Every delivery of a round, answered 202 and found in the ledger."""
    before = tickets.newest_delivery(ledger, 1)
    answers = knock(port, _parcels(slug, number + 1), CONNECTIONS)
    kept = len(tickets.pending_deliveries(ledger, 1, 10 * COUNT)) - before
    if answers.statuses != {202: COUNT} or kept != COUNT:
        raise RuntimeError(f"answered {dict(answers.statuses)}, and {kept} of {COUNT} deliveries were committed")
    return answers


# -- the flood ---------------------------------------------------------------------------------------------------------


def _flooded(case: str, port: int, slug: str) -> list[Measure]:
    """Forgers knock as fast as they can while a genuine delivery comes now and then."""
    spawn = multiprocessing.get_context("spawn")
    told = spawn.SimpleQueue()
    forger = spawn.Process(target=_forge, args=(port, slug, told))
    asked, genuine = _asked(port), iter(_parcels(slug, 9)[: int(FLOOD_SECONDS / GENUINE_EVERY)])
    forger.start()
    told.get()  # it begins
    took, until = list[float](), time.monotonic() + FLOOD_SECONDS - 0.5
    while time.monotonic() < until and (parcel := next(genuine, None)) is not None:
        answers = knock(port, [parcel], 1)
        if answers.statuses != {202: 1}:
            raise RuntimeError(f"a genuine delivery was answered {dict(answers.statuses)}")
        took += answers.took
        time.sleep(GENUINE_EVERY)
    forged: int = told.get()
    forger.join()
    queries = _asked(port)["other"] - asked["other"]
    return [
        Measure(case, "refused", forged / FLOOD_SECONDS, "answers/s"),
        Measure(case, "queries for a thousand of them", queries / forged * 1000, "queries", 10),
        Measure(case, "the slowest of the genuine deliveries", max(took) * 1000, "ms", IN_A_FLOOD),
        Measure(case, "genuine deliveries", len(took), "deliveries"),
    ]


def _forge(port: int, slug: str, told: object) -> None:
    parcels = itertools.cycle(_parcels(slug, 0, secret="not the secret")[:500])
    told.put(0)  # type: ignore[attr-defined]
    answers = knock(port, parcels, FORGERS, time.monotonic() + FLOOD_SECONDS)
    if set(answers.statuses) != {401}:
        raise RuntimeError(f"forgeries were answered {dict(answers.statuses)}")
    told.put(len(answers.took))  # type: ignore[attr-defined]


def _asked(port: int) -> dict[str, float]:
    found: dict[str, float] = requests.get(f"http://127.0.0.1:{port}/statements", timeout=60).json()
    return found


# -- what is knocked at, and with --------------------------------------------------------------------------------------


@contextmanager
def _door(kind: str, *more: str) -> Iterator[int]:
    """A server in a process of its own; its port."""
    command = [sys.executable, "-m", "tests.bench.door", kind, *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            if process.stdout is None or not (port := process.stdout.readline().strip()):
                raise RuntimeError("the server did not start")
            yield int(port)
        finally:
            process.kill()


def _onboarded(ledger: Ledger) -> str:
    account = identity.account_at(ledger, "https://bench.zendesk.com")
    identity.note_onboarding(ledger, account.account_id, WEBHOOK)
    Secrets(ledger, Vault([KEY]), account.holder).put(f"{SIGNING}{WEBHOOK}", SECRET)
    return account.slug


def _url(ledger: Ledger) -> str:
    return ledger.engine.url.render_as_string(hide_password=False)


def _parcels(slug: str, series: int, secret: str = SECRET) -> list[bytes]:
    """Signed events of tickets, each with an id of its own, made before the clock runs."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [_parcel(slug, series, number, secret, now) for number in range(COUNT)]


def _parcel(slug: str, series: int, number: int, secret: str, now: str) -> bytes:
    event = {
        "account_id": 1, "id": f"00000000-0000-4000-{series:04d}-{number:012d}", "subject": f"zen:ticket:{number + 1}",
        "detail": {
            "id": str(number + 1), "status": "OPEN", "subject": "Pump seal 40-118-7 leaks", "tags": ["qad"],
            "description": "It leaks again, as it did last year. " * 20,
        },
        "event": {"current": "OPEN", "previous": "NEW"}, "time": now,
        "type": "zen:event-type:ticket.status_changed", "zendesk_event_version": "2022-11-06",
    }  # fmt: skip
    body = json.dumps(event, indent=2).encode()
    headers = {"Content-Type": "application/json; charset=utf-8", SIGNATURE: sign(secret, now, body), TIMESTAMP: now}
    return request(f"/qadzd/webhooks/zendesk/{slug}", headers, body)
