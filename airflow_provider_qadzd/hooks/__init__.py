"""The hooks that wrap QAD and Zendesk for Airflow."""
