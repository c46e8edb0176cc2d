"""A TCP proxy that can go silent: it then accepts data and forwards none of it.

Run as a script with a host and a port, it prints the port on which it listens. Each line of its input makes
it silent, or forward again. It ends with its input.
"""

from __future__ import annotations

import select
import socket
import sys
import threading
from contextlib import suppress
from typing import Self


class Proxy:
    """Listens on a loopback port and forwards to a server while ``silent`` is not set."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.silent = threading.Event()
        self._stop_read, self._stop_write = socket.socketpair()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_write.send(b"x")
        self._thread.join()
        for each in (*self._peers, self._listener, self._stop_read, self._stop_write):
            each.close()

    def through(self, dsn: str) -> str:
        """The connection string with the proxy's port in place of the server's."""
        return dsn.replace(f":{self._target[1]}/", f":{self.port}/")

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener, self._stop_read, *self._peers], [], [], 10)
            if self._stop_read in ready:
                return
            for each in ready:
                if each is self._listener:
                    self._accept()
                elif each in self._peers:
                    self._forward(each)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        with suppress(OSError):
            server = socket.create_connection(self._target)
            self._peers |= {client: server, server: client}
            return
        client.close()

    def _forward(self, source: socket.socket) -> None:
        target = self._peers[source]
        try:
            data = source.recv(65536)
            if data and not self.silent.is_set():
                target.sendall(data)
        except OSError:
            data = b""
        if not data:
            for each in (source, target):
                del self._peers[each]
                each.close()


def main(host: str, port: str) -> None:
    with Proxy(host, int(port)) as proxy:
        print(proxy.port, flush=True)  # noqa: T201 - the caller reads the port
        for _ in sys.stdin:
            if proxy.silent.is_set():
                proxy.silent.clear()
            else:
                proxy.silent.set()


if __name__ == "__main__":
    main(*sys.argv[1:])
