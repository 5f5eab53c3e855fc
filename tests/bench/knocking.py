"""Sends requests over many kept connections from one thread, each as soon as the one before it is answered.

No HTTP library: requests are made as bytes beforehand, and of an answer only the status is looked at, so that what is
measured is the server. How fast this can be is measured against a server that does nothing either.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass
class Answers:
    """How many of each status, the seconds that each took in order of size, and how long all took together."""

    statuses: Counter[int] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.took) / self.seconds

    def slowest(self, share: float) -> float:
        """Seconds that all but this share took at most."""
        return sorted(self.took)[max(0, int(len(self.took) * (1 - share)) - 1)]


def request(path: str, headers: dict[str, str], body: bytes) -> bytes:
    """A whole request as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def knock(port: int, requests: Iterable[bytes], connections: int, until: float = float("inf")) -> Answers:
    """Send them all, or what can be sent until that moment of the monotonic clock."""
    answers, waiting = Answers(), iter(requests)
    with selectors.DefaultSelector() as selector:
        began = time.perf_counter()
        for _ in range(connections):
            _send_next(selector, socket.create_connection(("127.0.0.1", port), timeout=60), waiting)
        while selector.get_map():
            for key, _ in selector.select():
                answer = key.fileobj.recv(65_536)  # type: ignore[union-attr]
                if not answer:
                    raise RuntimeError("the server closed the connection")
                answers.took.append(time.perf_counter() - key.data)
                answers.statuses[int(answer[9:12])] += 1
                selector.unregister(key.fileobj)
                _send_next(selector, key.fileobj, waiting if time.monotonic() < until else iter(()))  # type: ignore[arg-type]
        answers.seconds = time.perf_counter() - began
    return answers


def _send_next(selector: selectors.BaseSelector, connection: socket.socket, waiting: Iterator[bytes]) -> None:
    following = next(waiting, None)
    if following is None:
        connection.close()
        return
    connection.sendall(following)
    selector.register(connection, selectors.EVENT_READ, time.perf_counter())
