"""The demo: both systems simulated, a real Airflow over them, and a table that compares what came of it.

`__main__` takes the command line, `story` walks through the steps, `standalone` runs Airflow, `runs` makes and watches
DAG runs in it, `processes` starts and ends whatever runs, `report` compares the sandbox with the ledger, and `expected`
knows what should have come of the sandbox's records. The reader shares no code with the sync: plain SQL on the ledger's
file, plain HTTP to the sandbox.
"""
