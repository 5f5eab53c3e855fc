"""The sandbox's answers and our requests, judged by Zendesk's own OpenAPI document.

    make conformance SPEC=path/to/zendesk-openapi.yaml

The document is Zendesk's and carries no licence, so neither it nor text from it is part of this project: the run takes
its path. `drive` calls every method of the client against a sandbox and keeps what went over the wire, `visit` calls
the rest of what the sandbox serves, `document` holds each request and each 2xx answer against the document to the
bottom, and `known` lists where the real service is seen to differ from it. Anything else that differs fails the run,
and so does a method or a route that was not reached.
"""
