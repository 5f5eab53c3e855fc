"""The simulated Zendesk: one module for each kind of resource, each with its own table of routes."""
