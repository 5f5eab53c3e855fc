"""`python -m airflow_provider_qadzd.sandbox`: serve the sandbox until it is interrupted."""

from __future__ import annotations

import argparse
import gc
from contextlib import suppress

from .clock import parse_instant
from .manual import MANUAL
from .serve import listening, server_for
from .state import Settings, Size, State


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_qadzd.sandbox",
        description=__doc__,
        epilog=MANUAL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    parser.add_argument("--customers", type=int, default=40, help="QAD customers")
    parser.add_argument("--contacts", type=int, default=120, help="QAD contacts")
    parser.add_argument("--tickets", type=int, default=200, help="Zendesk tickets")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same records")
    parser.add_argument("--now", help="what the sandbox's clock shows at the start: ISO 8601 or epoch seconds")
    parser.add_argument("--job-delay", type=float, default=0.0, help="seconds that a bulk job takes")
    parser.add_argument("--no-bulk-import", action="store_true", help="bulk user import answers 403")
    return parser.parse_args()


def main() -> None:
    """Bind, fill, say where, serve."""
    given = arguments()
    bound = listening(given.host, given.port)
    url = f"http://{given.host}:{bound.getsockname()[1]}"
    settings = Settings(job_delay=given.job_delay, bulk_import=not given.no_bulk_import)
    size = Size(given.customers, given.contacts, given.tickets, given.seed)
    state = State(size, None if given.now is None else parse_instant(given.now), url, settings)
    bound.listen(512)
    gc.freeze()
    print(url, flush=True)
    with suppress(KeyboardInterrupt):
        server_for(state).run(sockets=[bound])


if __name__ == "__main__":
    main()
