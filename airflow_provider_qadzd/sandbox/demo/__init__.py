"""The demo: both systems simulated, a real Airflow over them, and a table that compares what came of it.

`__main__` takes the command line, `story` walks through the steps, `standalone` runs Airflow and talks to it,
`processes` starts and ends whatever runs, and `report` compares the sandbox with the ledger. The reader in `report`
shares no code with the sync: plain SQL on the ledger's file, plain HTTP to the sandbox.
"""
