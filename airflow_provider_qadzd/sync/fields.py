"""The custom fields that a mapping writes, against those that the Zendesk account has.

Zendesk drops a value for a field that it does not know in silence, so they are compared before the first write.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from airflow_provider_qadzd.errors import FixFirst
from airflow_provider_qadzd.records import Kind
from airflow_provider_qadzd.sync.mapping import ORGANIZATION_FIELDS, USER_FIELDS, FieldMapping
from airflow_provider_qadzd.zendesk.client import ZendeskClient
from airflow_provider_qadzd.zendesk.wire import Row

KINDS: tuple[Kind, ...] = ("organization", "user")

OURS: Mapping[str, Mapping[str, str]] = {"organization": ORGANIZATION_FIELDS, "user": USER_FIELDS}
"""The fields that onboarding makes, by kind: key to title."""


def fields_there(client: ZendeskClient, kind: Kind) -> dict[str, Row]:
    """The account's custom fields by key. One call for each hundred of them."""
    rows = client.fields.organization_fields() if kind == "organization" else client.fields.user_fields()
    return {str(row.get("key")): row for row in rows}


def refuse_missing_fields(client: ZendeskClient, mapping: FieldMapping) -> None:
    """FixFirst naming every mapped custom field, of either kind, that the account does not have."""
    missing, advice = [], []
    for kind in KINDS:
        wanted = mapping.custom_fields(kind)
        there = fields_there(client, kind) if wanted else {}
        lacking = [key for key in wanted if key not in there]
        missing += [f"{kind}_fields.{key}" for key in lacking]
        advice += [_advice(kind, key, there) for key in lacking]
    if missing:
        what = f"Zendesk does not have fields that the mapping writes: {', '.join(missing)}."
        raise FixFirst(what, advice=" ".join(dict.fromkeys(advice)))


def _advice(kind: Kind, key: str, there: Iterable[str]) -> str:
    if key in OURS[kind]:
        return "Run the flow's DAG qadzd_onboard, which makes the default fields."
    near = difflib.get_close_matches(key, there, n=1)
    return f"Did you mean {near[0]!r} instead of {key!r}?" if near else f"Make {key!r} in Zendesk's Admin Center."
