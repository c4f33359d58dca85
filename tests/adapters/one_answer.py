"""A server that answers one request, from a thread of its own: so it can while the loop is busy."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def one_answer(
    answer: bytes,
    answered: threading.Event,
    *,
    heard: Callable[[], object] = lambda: None,
    may: threading.Event | None = None,
) -> Iterator[int]:
    """Its port. `heard` is called when something has come; it answers when it `may`, and says that it has."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            accepted, _ = listening.accept()
            with accepted, suppress(ConnectionError):
                accepted.recv(4096)
                heard()
                if may is not None:
                    may.wait(10)
                accepted.sendall(answer)
                answered.set()
                accepted.recv(4096)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(10)
