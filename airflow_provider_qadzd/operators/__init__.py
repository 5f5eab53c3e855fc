"""The operators of both journeys, each a thin edge around one function of `sync`."""
