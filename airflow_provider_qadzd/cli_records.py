"""`airflow qadzd story`, `why`, `tickets`, `replay`, `forget`: what is asked of records at a terminal.

Heavy imports inside."""

from __future__ import annotations

import argparse
import logging
import sys


def story(given: argparse.Namespace) -> None:
    """Everything that the ledger knows of a key; exit 1 if that is nothing."""
    from airflow_provider_qadzd import config
    from airflow_provider_qadzd.ledger.stories import stories
    from airflow_provider_qadzd.sync import story as telling

    logging.disable(logging.WARNING)  # Airflow logs to stdout, which is for the story, maybe as JSON
    ledger = config.open_ledger()
    found = stories(ledger, given.key, given.flow)
    if given.json:
        print(telling.as_json(found))
    else:
        print("\n\n".join(map(telling.as_text, found)))
    if not found:
        sys.exit(telling.unknown_text(ledger, given.key, given.flow))


def why(given: argparse.Namespace) -> None:
    """All reasons with their counts, or the reason of one record; exit 1 for a key that nobody knows."""
    from airflow_provider_qadzd import config
    from airflow_provider_qadzd.ledger.stories import stories
    from airflow_provider_qadzd.sync import story as telling

    logging.disable(logging.WARNING)
    ledger = config.open_ledger()
    if given.key is None:
        found = telling.causes(ledger, given.flow)
        print(telling.causes_json(found) if given.json else telling.causes_text(found))
        return
    known = stories(ledger, given.key, given.flow)
    if given.json:
        print(telling.whys_json(known))
    else:
        print("\n".join(map(telling.why_text, known)))
    if not known:
        sys.exit(telling.unknown_text(ledger, given.key, given.flow))


def tickets(given: argparse.Namespace) -> None:
    """A customer's tickets, newest change first, after their numbers; exit 1 if there is none."""
    from airflow_provider_qadzd import config
    from airflow_provider_qadzd.ledger.stories import flows_named
    from airflow_provider_qadzd.ledger.support import support_of
    from airflow_provider_qadzd.sync.story import support_json, support_text

    logging.disable(logging.WARNING)
    ledger = config.open_ledger()
    with ledger.reading() as tx:
        flows = flows_named(tx, given.flow)
    found = [one for flow in flows if (one := support_of(ledger, flow, given.key, given.limit)) is not None]
    if given.json:
        print(support_json(found))
    else:
        print("\n\n".join(map(support_text, found)))
    if not found:
        sys.exit(f"No ticket is tied to customer {given.key}. `airflow qadzd story {given.key}` tells what is known.")


def forget(given: argparse.Namespace) -> None:
    """Say who would be forgotten; with --yes, forget them. Once more for one who was, the file is written over."""
    from airflow_provider_qadzd import config
    from airflow_provider_qadzd.ledger import forgetting
    from airflow_provider_qadzd.sync import forget as telling

    logging.disable(logging.WARNING)
    ledger = config.open_ledger()
    found = forgetting.subjects(ledger, given.key, given.flow)
    was = forgetting.forgotten_since(ledger, given.key, given.flow)
    if was and not found:
        left = "" if ledger.compact() else " Its file is in use, and could not be written over: run this again."
        print(f"{was[0][0].capitalize()} {given.key} was forgotten on {was[0][1]}.{left}")
        return
    subject = forgetting.one_subject(found, given.key, given.kind)
    print(telling.before(subject))
    if not given.yes:
        print("Nothing was done. Give --yes to forget for good: it cannot be taken back.")
        return
    done = forgetting.forget(ledger, subject, "airflow qadzd forget")
    print(telling.after(subject, done, compacted=ledger.compact(), is_sqlite=ledger.is_sqlite))


def replay(given: argparse.Namespace) -> None:
    """Let the chosen records be decided again by the next run, and the chosen deliveries be drained again."""
    from airflow_provider_qadzd import config
    from airflow_provider_qadzd.ledger.replays import Chosen
    from airflow_provider_qadzd.ledger.replays import replay as lift
    from airflow_provider_qadzd.ledger.stories import flows_named

    logging.disable(logging.WARNING)
    ledger = config.open_ledger()
    chosen = Chosen(given.key or "", given.reason, given.run, given.since, given.until).checked()
    with ledger.reading() as tx:
        flows = flows_named(tx, given.flow)
    for flow in flows:
        print(f"{flow.name}: {lift(ledger, flow, chosen, 'airflow qadzd replay').summary()}")
    print("The next runs of qadzd_sync_accounts and qadzd_ticket_events do it.")
