"""A TCP proxy that can go silent: it then accepts data and forwards none of it. It can also cut connections.

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
    """Listens on a loopback port and forwards to a server while ``silent`` is not set.

    While ``drops_answers`` is set, it forwards only what clients send.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.silent = threading.Event()
        self.drops_answers = threading.Event()
        self._is_cut = threading.Event()
        self._stop_read, self._stop_write = socket.socketpair()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._servers: set[socket.socket] = set()
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

    def cut(self) -> None:
        """Close all connections, and new ones at once, until ``restore()``."""
        self._is_cut.set()
        self._stop_write.send(b"c")

    def restore(self) -> None:
        """Forward new connections again."""
        self._is_cut.clear()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener, self._stop_read, *self._peers], [], [], 10)
            if self._stop_read in ready:
                if self._stop_read.recv(1) == b"x":
                    return
                for each in list(self._peers):
                    each.close()
                self._peers.clear()
                continue
            for each in ready:
                if each is self._listener:
                    self._accept()
                elif each in self._peers:
                    self._forward(each)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        with suppress(OSError):
            if not self._is_cut.is_set():
                server = socket.create_connection(self._target)
                self._peers |= {client: server, server: client}
                self._servers.add(server)
                return
        client.close()

    def _forward(self, source: socket.socket) -> None:
        target = self._peers[source]
        try:
            data = source.recv(65536)
            is_dropped = self.silent.is_set() or (self.drops_answers.is_set() and source in self._servers)
            if data and not is_dropped:
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
