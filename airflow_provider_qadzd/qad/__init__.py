"""QAD, as this package speaks to it: the Adaptive REST edition.

`browse` is the dialect without any I/O, `auth` signs in, `client` reads customers and contacts page by page.
Nothing here writes to QAD, and nothing here knows Zendesk, the ledger or Airflow.
"""
