"""Where every setting comes from in an Airflow process: `[qadzd]` options, connections, and a few variables.

Facts of one system stand in its connection's extra, schedules and policies in `[qadzd]`, keys in the environment. The
ledger's address is resolved here and nowhere else.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow.sdk import BaseHook, Connection
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowNotFoundException
from sqlalchemy import URL

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.ledger import Ledger
from airflow_provider_qadzd.ledger.vault import Vault
from airflow_provider_qadzd.settings import settings_from
from airflow_provider_qadzd.sync.absence import Patience
from airflow_provider_qadzd.sync.mapping import DEFAULT, FieldMapping
from airflow_provider_qadzd.sync.mapping_file import parse_mapping
from airflow_provider_qadzd.sync.plan import Brake
from airflow_provider_qadzd.sync.policies import ALLOWED, Policies, policies_from

LEDGER_CONNECTION = "qadzd_ledger"


@dataclass(frozen=True, slots=True)
class FlowSettings:
    """One entry of `[qadzd] flows`: two connection ids, and the templates of external ids."""

    name: str = "default"
    qad: str = "qad_default"
    zendesk: str = "zendesk_default"
    organization: str = "{code}"
    user: str = "{contact}"

    @property
    def suffix(self) -> str:
        """What the flow's DAG ids end with: nothing for the default flow."""
        return "" if self.name == "default" else f"__{self.name}"


def option(name: str) -> str:
    """A `[qadzd]` option as text; its default stands in the provider's information."""
    return str(conf.get("qadzd", name))


def number(name: str) -> float:
    """A `[qadzd]` option as a number. FixFirst if it is not one."""
    try:
        return float(option(name))
    except ValueError:
        raise FixFirst(f"[qadzd] {name} is not a number: {option(name)!r}.") from None


def mapping() -> FieldMapping:
    """The mapping at `[qadzd] mapping_path`, else the default one. FixFirst with every error in the file.

    Asked by tasks and by the doctor, never while a DAG file is parsed: a bad file must not make DAGs vanish.
    """
    path = option("mapping_path").strip()
    if not path:
        return DEFAULT
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        advice = "Correct [qadzd] mapping_path, or the file, on every machine that runs tasks."
        raise FixFirst(f"The mapping file {path} cannot be read: {why}.", advice=advice) from None
    return parse_mapping(text, path)


def policies() -> Policies:
    """What the collision table's options choose. FixFirst, listing what is allowed, for a value that is not."""
    return policies_from({name: option(name) for name in ALLOWED})


def brake(released: bool = False) -> Brake:
    """How much one run may change; nothing holds it when it is `released`."""
    if released:
        return Brake.released()
    return Brake(
        number("brake_share"), int(number("brake_floor")),
        number("brake_deactivations_share"), int(number("brake_deactivations_floor")),
        number("brake_removals_share"), int(number("brake_removals_floor")),
    )  # fmt: skip


def patience() -> Patience:
    """How long a QAD record must be missing until it counts as gone."""
    return Patience(int(number("absence_reads")), number("absence_hours"))


def flows() -> list[FlowSettings]:
    """Every flow. FixFirst for text that is not a JSON list of objects with known names."""
    try:
        listed = json.loads(option("flows"))
    except json.JSONDecodeError as error:
        raise FixFirst(f"[qadzd] flows is not JSON: {error.msg} at column {error.colno}.") from None
    if not isinstance(listed, list) or not listed:
        raise FixFirst("[qadzd] flows must be a JSON list with at least one flow.")
    found = [settings_from(FlowSettings, one, f"[qadzd] flows, entry {n}") for n, one in enumerate(listed, 1)]
    names = [one.name for one in found]
    if len(set(names)) != len(names):
        raise FixFirst(f"[qadzd] flows names a flow twice: {', '.join(names)}.")
    return found


def flow_settings(name: str) -> FlowSettings:
    """The flow of that name, FixFirst listing the known ones."""
    known = {one.name: one for one in flows()}
    if name not in known:
        raise FixFirst(f"There is no flow {name!r} in [qadzd] flows.", advice=f"Known: {', '.join(known)}.")
    return known[name]


def connection(conn_id: str) -> Connection:
    """The Airflow connection, FixFirst if there is none."""
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise FixFirst(
            f"There is no Airflow connection {conn_id!r}.", advice="Make it under Admin, Connections."
        ) from None


def open_ledger() -> Ledger:
    """The ledger, with tables of this version. In a process that may ask Airflow for connections."""
    return unopened_ledger().opened()


def unopened_ledger() -> Ledger:
    """The ledger as it is, for whoever migrates it."""
    url = os.environ.get("QADZD_LEDGER_URL")
    if not url:
        try:
            url = _url_in(BaseHook.get_connection(LEDGER_CONNECTION))
        except AirflowNotFoundException:
            url = default_ledger_url()
    return _ledger_at(url)


async def open_ledger_async() -> Ledger:
    """The same in the triggerer, where connections are asked for asynchronously."""
    url = os.environ.get("QADZD_LEDGER_URL")
    if not url:
        try:
            url = _url_in(await BaseHook.aget_connection(LEDGER_CONNECTION))
        except AirflowNotFoundException:
            url = default_ledger_url()
    return _ledger_at(url).opened()


def _ledger_at(url: str) -> Ledger:
    """FixFirst for SQLite where tasks may run on more than one machine."""
    ledger = Ledger(url)
    ledger.vault = vault
    executor = conf.get("core", "executor")
    if ledger.is_sqlite and executor != "LocalExecutor":
        raise FixFirst(
            f"The ledger is a SQLite file, but Airflow runs tasks with {executor}, maybe on several machines.",
            advice=f"Make a connection {LEDGER_CONNECTION!r} to PostgreSQL, or set QADZD_LEDGER_URL.",
        )
    return ledger


def default_ledger_url() -> str:
    """A SQLite file in Airflow's home."""
    home = os.environ.get("AIRFLOW_HOME") or str(Path("~/airflow").expanduser())
    return f"sqlite:///{Path(home).resolve()}/qadzd/ledger.db"


def _url_in(found: Connection) -> str:
    """Built field by field: Airflow's own URI says `postgres://`, which SQLAlchemy refuses."""
    if found.conn_type == "sqlite":
        return f"sqlite:///{found.host or found.schema}"
    url = URL.create(
        "postgresql+psycopg", found.login, found.password, found.host, found.port, found.schema,
        {name: str(value) for name, value in found.extra_dejson.items()},
    )  # fmt: skip
    return url.render_as_string(hide_password=False)


def vault() -> Vault:
    """For tokens: the keys in QADZD_VAULT_KEYS, else Airflow's own.

    FixFirst if Airflow itself has none: it keeps the connections in plain text, so nothing secret is given to it, not
    even with keys of our own.
    """
    airflows = _airflows_keys()
    if not airflows:
        raise FixFirst(
            "Airflow runs without a Fernet key and keeps its connections, passwords included, in plain text.",
            advice="Make a key with `airflow qadzd new-key`, set it as [core] fernet_key in airflow.cfg "
            "(AIRFLOW__CORE__FERNET_KEY) for every Airflow process, restart them, and save the connections again.",
        )
    return Vault(_keys_in(os.environ.get("QADZD_VAULT_KEYS", "")) or airflows)


def receiver_vault() -> Vault:
    """For signing secrets: the keys in QADZD_RECEIVER_KEYS, else those for tokens.

    With keys of its own a receiver that runs alone needs none of Airflow's.
    """
    own = _keys_in(os.environ.get("QADZD_RECEIVER_KEYS", ""))
    return Vault(own, what="receiver key") if own else vault()


# airflow.models.crypto.get_fernet, 3.3.2: "if not fernet_key: log.warning('empty cryptography key - values will not be
# stored encrypted.'); return _NullFernet()". Where nobody sets the option, the core reads it as empty, and the SDK's
# `conf`, which does not fill templates in, as the text of its default (seen).
def _airflows_keys() -> list[str]:
    return [key for key in _keys_in(conf.get("core", "fernet_key", fallback="")) if key != "{FERNET_KEY}"]


def _keys_in(text: str) -> list[str]:
    return [key.strip() for key in text.split(",") if key.strip()]


def extra_of(found: Connection, conn_id: str) -> dict[str, Any]:
    """A connection's extra as an object; FixFirst if it is not JSON."""
    try:
        extra = json.loads(found.extra or "{}")
    except json.JSONDecodeError as error:
        raise FixFirst(f"connection {conn_id}, extra is not JSON: {error.msg} at column {error.colno}.") from None
    if not isinstance(extra, dict):
        raise FixFirst(f"connection {conn_id}, extra must be a JSON object.")
    return extra
