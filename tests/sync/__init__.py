"""Both journeys, over a real socket against the sandbox and with a real ledger."""
