"""QAD customers and contacts into Zendesk, and every Zendesk ticket back to its QAD customer. A map of this package.

    out   QAD --collect--> ledger --map--> wanted --\\
          Zendesk --mirror--> what is there ---------> plan --apply--> Zendesk
    in    Zendesk --webhook--> inbox --drain--\\
          Zendesk --export--------------------- receive --match--> ledger

Words (import the standard library, and msgspec for what comes a hundred thousand times):
    errors      what went wrong, named by what to do next
    findings    what somebody found who looked before anything was done, as checks that end in a verdict
    records     the values both journeys pass along, and the Protocols of budget, token store and clock
    settings    how a setting is read into a frozen dataclass

Dialects (the systems; no ledger, no Airflow):
    qad/        reader (what the rest knows of QAD), http, scope, columns; REST: browse (what QAD says), auth, client,
                preflight (proposals); SOAP: qxtend (what is asked), qxtend_answer, qxtend_client, the same
    zendesk/    connection, wire (what Zendesk says), exported, oauth, tokens, pace, webhook (verify), client and its
                resources, probe

Decisions (pure):
    sync/mapping    QAD record -> what Zendesk should have (sync/template, sync/ownership; a file by sync/mapping_file)
    sync/policies   what the owner chose where the two collide
    sync/plan       what to do about one record
    sync/match      which QAD customer a ticket belongs to
    sync/reasons    why a record is not in Zendesk, in words

Doing (the only modules that touch a system and the ledger):
    sync/collect (sync/absence) -> sync/mirror -> sync/draft -> sync/apply (sync/singly, sync/pairs, sync/moves)
    sync/drift: what was done by hand in Zendesk; sync/rebuild, sync/rekey: a lost ledger's links, a changed identity
    sync/estimate, sync/review, sync/showing: what a plan costs, whether it still stands, how it is told
    sync/receive, sync/export, sync/ticket_files, sync/ticket_organizations
    sync/onboard (sync/webhooks, sync/scopes), sync/doctor, sync/story (told to people), sync/forget

Memory:
    ledger/     schema, store (transactions), identity (source, account, flow), accounts, absence, differences, members,
                moves, changes, plans, applying, looks, drift, rekeying, tickets, sensing, matching, support,
                ticket_organizations, exports, bulk (whole pages at once), vault (secrets), consents, budget, health,
                stories, causes, replays, forgetting, tombstones, retention, rights, migrations

Airflow's edge (alone may import airflow):
    hooks/ operators/ sensors/ triggers/ plugin/ config retry doctor reviewing cli cli_onboard cli_plan
    cli_records cli_drift provider_info

The stage:
    sandbox/    both systems simulated; sandbox/demo runs everything

A test walks these layers. Start reading at sync/apply and sync/receive: they tell one record's life.
"""

__version__ = "0.1.0"
