"""The two journeys. Out: collect, mirror, draft (mapping, plan), apply. In: receive, export (match). Once: onboard."""
