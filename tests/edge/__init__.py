"""Tests of Airflow's edge: the only ones that need Airflow itself."""
