"""The Zendesk dialect: what Zendesk says and wants to hear, and nothing about QAD, the ledger or Airflow.

`wire` (bodies, cursors, job results, limits, errors) and `webhook` (a signed request becomes a Delivery) do no I/O.
`oauth` keeps a valid token at hand, `pace` keeps within the account's budgets, `client` makes the calls.
"""
