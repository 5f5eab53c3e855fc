"""What a person is told before and after a customer or contact is forgotten: what goes, and what is left to do."""

from __future__ import annotations

from airflow_provider_qadzd.ledger.forgetting import Forgotten, Subject


def before(subject: Subject) -> str:
    """Who it is, where they stand, and whom it concerns as well."""
    named = ", ".join((*subject.names, *subject.emails)) or "no name known"
    lines = [f"{subject.of.capitalize()} {subject.key}: {named}."]
    lines += [f"  {subject.kind} {zendesk_id} in Zendesk" for _, zendesk_id in subject.zendesk_ids]
    if subject.shared_with:
        lines.append(
            f"  The address is also that of {', '.join(subject.shared_with)}: it stays with them, and whoever else "
            "comes with it is stored."
        )
    if subject.contacts:
        lines.append(f"  Its contacts are not forgotten with it: {', '.join(subject.contacts)}.")
    return "\n".join(lines)


def after(subject: Subject, done: Forgotten, *, compacted: bool, is_sqlite: bool) -> str:
    """What was done, and what only a person can do."""
    told = ", ".join(f"{count} {name}" for name, count in sorted(done.rows.items()))
    lines = [f"Forgotten, known from now on as {done.pseudonym}. Rows deleted or emptied: {told or 'none'}."]
    if not compacted:
        lines.append("The ledger's file could not be written over while others use it: run the same command again.")
    lines.append("Still to be done by a person:")
    for _, zendesk_id in subject.zendesk_ids:
        how = "delete it for good (Admin Center), and redact its tickets" if subject.of == "contact" else "delete it"
        lines.append(f"  - in Zendesk, {subject.kind} {zendesk_id}: {how}; it is not ours to delete")
    lines.append(f"  - in QAD, {subject.of} {subject.key}: until it is gone there, each read skips it")
    copies = "copies of the ledger's file" if is_sqlite else "the database's backups, write-ahead log and replicas"
    lines.append(f"  - Airflow's task logs, and {copies}")
    return "\n".join(lines)
