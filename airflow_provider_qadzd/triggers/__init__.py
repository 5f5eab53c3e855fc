"""The triggers. Each asks the ledger in a thread, backs off by itself, and survives what goes wrong with it."""
