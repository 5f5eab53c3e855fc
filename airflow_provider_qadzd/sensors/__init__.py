"""The sensor that a user's own DAG waits on."""
