"""What the rest of this package knows of QAD, whichever edition answers: a `QadReader`, and the `Read` it hands out.

Both editions yield the same records, end a read by the same rules, and are held to the same tests
(`tests/qad/test_reader_contract.py`). Nothing here touches the network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from airflow_provider_qadzd.errors import QadzdError
from airflow_provider_qadzd.records import Contact, Customer

T = TypeVar("T")

NOTHING: Mapping[str, str] = {}


class Read(Generic[T]):
    """Pages as they come. Once they have ended, `complete` says whether that was everything, `reason` why not.

    A fault in the middle raises out of the iteration, and `complete` stays False. `rows` counts what QAD sent;
    `refused` counts, by reason, the rows among them that are no record (a contact without a customer code).
    """

    def __init__(self, pages: Callable[[Read[T]], Iterator[list[T]]]) -> None:
        self.complete, self.reason, self.pages, self.rows = False, "not read to its end", 0, 0
        self.refused: Counter[str] = Counter()
        self._pages = pages(self)

    def __iter__(self) -> Iterator[list[T]]:
        return self

    def __next__(self) -> list[T]:
        try:
            return next(self._pages)
        except QadzdError as error:
            self.reason = error.what
            raise

    def end(self, reasons: Sequence[str] = ()) -> None:
        """Say how the read ended: complete, or incomplete for these reasons."""
        self.complete, self.reason = not reasons, "; ".join(reasons)


class QadReader(Protocol):
    """One QAD instance, read as one user. Every method raises FixFirst or TryLater, and no other error."""

    def customers(self, further: Mapping[str, str] = NOTHING) -> Read[Customer]:
        """All customers, page by page; one that is seen in two scopes comes twice.

        `further` are columns to take along into `Customer.columns`, each with where it is named, for errors.
        """

    def contacts(self, further: Mapping[str, str] = NOTHING) -> Read[Contact]:
        """All contacts, page by page; a contact of two customers comes twice, under one key."""

    def changed_customers(self, since: str, further: Mapping[str, str] = NOTHING) -> Read[Customer] | None:
        """The customers changed on that day (`YYYY-MM-DD`) or later; None where nothing tells when one was changed."""

    def changed_contacts(self, since: str, further: Mapping[str, str] = NOTHING) -> Read[Contact] | None:
        """The contacts changed on that day or later, each at all of its customers; None where that cannot be had."""

    def customer_exists(self, shared_set: str, code: str) -> bool | None:
        """Whether QAD, asked for this customer by its key, finds it; None where it cannot be asked so."""

    def columns(self) -> dict[str, list[str]]:
        """What a mapping may name: every column of the customers, then of the contacts, by what they are read from."""

    def check_columns(self, customers: Mapping[str, str], contacts: Mapping[str, str]) -> None:
        """FixFirst if one of these columns is not there; what is named where, as in `customers`."""
