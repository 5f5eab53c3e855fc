"""The doctor in an Airflow process: a flow's connections, keys and ledger, and the order in which all is looked at."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import requests
from airflow.sdk.configuration import conf

from airflow_provider_qadzd import config
from airflow_provider_qadzd.config import FlowSettings
from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.findings import Check, Finding, examine
from airflow_provider_qadzd.hooks.qad import EditionHook, qad_hook
from airflow_provider_qadzd.hooks.zendesk import ZendeskHook, base_url_in
from airflow_provider_qadzd.ledger import Ledger, health, identity
from airflow_provider_qadzd.ledger.vault import SIGNING, Secrets, sealed_rows
from airflow_provider_qadzd.sync.doctor import (
    KEYS,
    LEDGER,
    MAPPING,
    Patient,
    connection_checks,
    pace_checks,
)
from airflow_provider_qadzd.sync.doctor_setup import SEALED, sealed_secrets, setup_checks
from airflow_provider_qadzd.zendesk.probe import Heard, knock

FLOW, QAD, COLUMNS = "flow", "QAD", "mapped columns"
SILENT_HOURS = 6.0


def examine_flow(settings: FlowSettings, silent_hours: float = SILENT_HOURS) -> list[Finding]:
    """Everything that a flow rests on. Nothing is written in Zendesk or QAD, and no other flow is touched."""
    zendesk = ZendeskHook(settings.zendesk)

    @cache
    def qad() -> EditionHook:
        """Found when a check asks for it, so that a connection which is not there is one finding."""
        return qad_hook(settings.qad)

    patient = patient_of(zendesk, config.option("receiver_url"), config.number("freshness_seconds"), silent_hours)
    return examine(
        [
            Check(KEYS, keys),
            Check(LEDGER, lambda: ledger(lambda: zendesk.ledger)),
            Check(FLOW, lambda: flow(settings, zendesk, qad()), (LEDGER,)),
            Check(MAPPING, mapping_file),
            Check(SEALED, lambda: sealed(zendesk), (KEYS, LEDGER)),
            *connection_checks(patient, needs=(KEYS, LEDGER)),
            *pace_checks(patient),
            *setup_checks(patient),
            Check(QAD, lambda: qad_connection(qad()), (KEYS, LEDGER)),
            Check(COLUMNS, lambda: mapped_columns(qad()), (MAPPING, QAD)),
        ]
    )


def patient_of(
    hook: ZendeskHook, receiver_url: str = "", freshness: float = 300.0, silent_hours: float = SILENT_HOURS
) -> Patient:  # fmt: skip
    """The connection of a hook. Nothing of it is opened before a check looks."""

    def address() -> str:
        return base_url_in(config.connection(hook.zendesk_conn_id))

    def heard(signed: bool) -> Heard:
        if signed:
            return knock(address(), hook.session, signed=True)
        with requests.Session() as session:
            return knock(address(), session)

    def signing() -> dict[str, str]:
        return Secrets(hook.ledger, config.receiver_vault(), hook.account.holder).with_prefix(SIGNING)

    return Patient(hook, address, heard, signing, receiver_url, freshness, silent_hours, config.mapping)


def examine_connection(hook: ZendeskHook) -> tuple[bool, str]:
    """What Airflow's button *Test* wants: whether the connection will do, and why."""
    findings = examine(connection_checks(patient_of(hook)))
    known = [one for one in findings if one.verdict != "skipped"]
    told = [one for one in known if one.verdict == "fail"] or known
    good = all(one.verdict in ("ok", "warn") for one in findings)
    return good, " ".join(f"{one.what} {one.advice}".strip() for one in told)


def keys() -> Finding:
    """Airflow's own Fernet key, and ours: without them nothing secret may be kept."""
    if not str(conf.get("core", "fernet_key")).strip(", "):
        told = "Airflow runs without a Fernet key and keeps its connections, passwords included, in plain text."
        return Finding(KEYS, "fail", told, "Set [core] fernet_key, then save the connections again.")
    config.vault()
    config.receiver_vault()
    return Finding(KEYS, "ok", "There is a key for Airflow's connections, for tokens and for signing secrets.")


def sealed(hook: ZendeskHook) -> Finding:
    """Whether the keys of this process open what the ledger keeps."""
    return sealed_secrets(sealed_rows(hook.ledger, config.vault(), config.receiver_vault()))


def ledger(opened: Callable[[], Ledger]) -> Finding:
    """Whether it can be had, is of this version, and suits the executor."""
    found = opened()
    where = found.engine.url.set(query={}).render_as_string(hide_password=True)
    return Finding(LEDGER, "ok", f"{where} is at revision {found.revision()}, as this version needs.")


def flow(settings: FlowSettings, zendesk: ZendeskHook, qad: EditionHook) -> Finding:
    """Whether the connections still mean the systems, and the templates the keys, that the flow's links belong to."""
    known = health.known_flow(zendesk.ledger, settings.name)
    if known is None:
        return Finding(FLOW, "ok", f"Flow {settings.name!r} has not run yet.")
    now = {
        "QAD": (known.qad_url, qad.qad_url),
        "QAD workspaces": (known.workspaces, ",".join(sorted(qad.source_parts))),
        "Zendesk": (known.zendesk_url, base_url_in(config.connection(settings.zendesk))),
        "organization template": (known.organization_template, settings.organization),
        "user template": (known.user_template, settings.user),
    }
    moved = [
        f"{name}: {was or 'none'} became {is_now or 'none'}" for name, (was, is_now) in now.items() if was != is_now
    ]
    if moved:
        raise FixFirst(
            f"Flow {settings.name!r} is not what it was. {'; '.join(moved)}.",
            advice=identity.ways_out(settings.name),
        )
    return Finding(FLOW, "ok", f"Flow {settings.name!r} joins {known.qad_url} to {known.zendesk_url}, as before.")


def qad_connection(hook: EditionHook) -> Finding:
    """The QAD connection's own test."""
    good, told = hook.test_connection()
    return Finding(QAD, "ok" if good else "fail", told)


def mapping_file() -> Finding:
    """Whether the mapping file can be read as one; every error in it at once."""
    mapping, path = config.mapping(), config.option("mapping_path").strip()
    told = f"{path} maps" if path else "There is none; the default maps"
    counts = f"{len(mapping.organization)} organization fields and {len(mapping.user)} user fields"
    return Finding(MAPPING, "ok", f"{told} {counts}.")


def mapped_columns(hook: EditionHook) -> Finding:
    """Whether QAD's browses have every column that the mapping names."""
    mapping = config.mapping()
    customers, contacts = mapping.columns("organization"), mapping.columns("user")
    if not customers and not contacts:
        return Finding(COLUMNS, "ok", "The mapping names no further columns of QAD.")
    hook.client.check_columns(customers, contacts)
    return Finding(COLUMNS, "ok", f"QAD has all {len(customers) + len(contacts)} columns that the mapping names.")
