"""A TCP proxy that cuts every connection after N bytes: a network that fails at an exact byte."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Passes bytes on to a server, and counts them.

    Parameters
    ----------
    host, port
        The server.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self.passed = {"sent": 0, "answered": 0}
        self._limit = {"sent": float("inf"), "answered": float("inf")}
        self._cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def mend(self, *, sent: float = float("inf"), answered: float = float("inf")) -> None:
        """Work from now on, until these numbers of bytes are sent or answered."""
        with self._lock:
            self.passed = {"sent": 0, "answered": 0}
            self._limit = {"sent": sent, "answered": answered}
            self._cut = False

    def close(self) -> None:
        """Close all connections and stop listening."""
        self._listener.close()
        self._cut_all()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._cut:
                    client.close()
                    continue
                server = socket.create_connection(self._server)
                with self._lock:
                    self._open += [client, server]
                for ends in ((client, server, "sent"), (server, client, "answered")):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, way: str) -> None:
        with suppress(OSError):
            while data := source.recv(4096):
                with self._lock:
                    remaining = self._limit[way] - self.passed[way]
                    data = data[: int(min(len(data), max(0, remaining)))]
                    self.passed[way] += len(data)
                    done = self.passed[way] >= self._limit[way]
                    self._cut = self._cut or done
                target.sendall(data)
                if done:
                    self._cut_all()
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _cut_all(self) -> None:
        with self._lock:
            self._cut = True
            ends, self._open = self._open, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def proxy(host: str, port: int) -> Iterator[Proxy]:
    """Yield a proxy, and close it when the block ends."""
    made = Proxy(host, port)
    try:
        yield made
    finally:
        made.close()
