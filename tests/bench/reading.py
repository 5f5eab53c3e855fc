"""100,000 customers of one edition into the ledger, beside a loop that only asks and parses."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import requests

from airflow_provider_qadzd.ledger import Ledger, identity
from airflow_provider_qadzd.qad.reader import QadReader
from airflow_provider_qadzd.sync.collect import collect
from tests.bench.measures import Measure, peak_memory, timed
from tests.bench.wiring import CustomersOnly, Sandbox, ledgers, sandbox

CUSTOMERS, FEWER = 100_000, 10_000
FIRST_READ, AGAIN, MEMORY = 0.15, 0.3, 1.2
TURNS = 3


@dataclass(frozen=True)
class Edition:
    """What is read, and how. `loop` is the floor: rows a second of a loop that keeps nothing, called `loop_name`.

    `open_reader` takes the sandbox's address and a session; both are functions of a module, for other processes.
    `address` and `parts` are the source's identity. `floor` is what the loop must reach, or the sandbox is measured.
    """

    name: str
    loop_name: str
    loop: Callable[[str], float]
    open_reader: Callable[[str, requests.Session], QadReader]
    address: Callable[[str], str]
    parts: tuple[str, ...] = ()
    floor: float | None = None


def measured(edition: Edition) -> list[Measure]:
    """Rows a second of the floor, the first read and an unchanged one; and what memory a read takes."""
    found = []
    with TemporaryDirectory() as folder, sandbox(CUSTOMERS) as served:
        edition.loop(served.url)  # the sandbox makes each row's bytes when they are first asked for
        with ledgers(Path(folder)) as opened:
            for name, ledger in opened.items():
                found += _reads(f"{edition.name} into {name}", edition, served, ledger)
        with sandbox(FEWER) as smaller:
            peaks = [_peak(edition, one.url) for one in (smaller, served)]
    ratio = peaks[1] / peaks[0]
    what = f"peak of {CUSTOMERS:,} to {FEWER:,} rows"
    return [*found, Measure(f"{edition.name} memory", what, ratio, "times", MEMORY)]


def _reads(case: str, edition: Edition, served: Sandbox, ledger: Ledger) -> list[Measure]:
    """Floor, first and second read in turns, so that all of them meet the same machine; the best of each counts."""
    floors, firsts, agains = [], [], []
    for turn in range(TURNS):
        # Another instance each time, as the ledger sees it, or there would be but one first read.
        source_id = identity.source_id_of(ledger, edition.address(served.url), (*edition.parts, f"turn {turn}"))
        floors.append(edition.loop(served.url))
        firsts.append(_read(edition, served.url, ledger, source_id, "first"))
        agains.append(_read(edition, served.url, ledger, source_id, "again"))
    floor, first, again = max(floors), max(firsts), max(agains)
    return [
        Measure(case, f"{edition.loop_name} alone", floor, "rows/s", edition.floor, at_least=True),
        Measure(case, "first read", first, "rows/s"),
        Measure(case, "first read, of the floor", first / floor, "", FIRST_READ, at_least=True),
        Measure(case, "unchanged read", again, "rows/s"),
        Measure(case, "unchanged read, of the floor", again / floor, "", AGAIN, at_least=True),
    ]


def _read(edition: Edition, url: str, ledger: Ledger, source_id: int, run: str) -> float:
    """Rows a second of a full read of all customers into the ledger."""
    with requests.Session() as session, timed() as watch:
        customers, _ = collect(ledger, source_id, CustomersOnly(edition.open_reader(url, session)), run, full=True)
    if not customers.complete:
        raise RuntimeError(customers.summary())
    return customers.rows / watch.seconds


def _peak(edition: Edition, url: str) -> float:
    """The most memory that reading all customers takes, in a process of its own that keeps none of them."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_here, (edition, url))


def _peak_here(edition: Edition, url: str) -> float:
    with requests.Session() as session:
        rows = sum(len(page) for page in edition.open_reader(url, session).customers())
    if rows not in (CUSTOMERS, FEWER):
        raise RuntimeError(f"{rows} rows")
    return peak_memory()
