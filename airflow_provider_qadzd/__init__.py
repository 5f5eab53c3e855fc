"""Keeps QAD customers and contacts in step with Zendesk, and ticket events in step with Airflow."""

__version__ = "0.1.0"
