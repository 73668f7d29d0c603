"""A TCP proxy before a server, which cuts connections where a test wants it to."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress


class Proxy:
    """A proxy that cuts the first connections that pass a limit, and lets all later ones live.

    Parameters
    ----------
    target : str
        ``scheme://host:port`` of the server.
    cuts : int
        How many connections are cut.
    after_sent, after_received : int or None
        Bytes from the client, or to the client, after which a connection is cut.

    Attributes
    ----------
    url : str
        The address of the proxy, with the target's scheme.
    connections : int
        How many there were.
    """

    def __init__(
        self,
        target: str,
        *,
        cuts: int,
        after_sent: int | None = None,
        after_received: int | None = None,
    ):
        scheme, _, address = target.partition("://")
        host, _, port = address.partition(":")
        self._target, self._cuts = (host, int(port)), cuts
        self._after_sent, self._after_received = after_sent, after_received
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = self.cut = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        # Shutting it down wakes the thread that waits in accept().
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _may_cut(self) -> bool:
        """Take one of the cuts that are left."""
        with self._lock:
            if self.cut >= self._cuts:
                return False
            self.cut += 1
            return True

    def _carry(self, client: socket.socket) -> None:
        """Carry bytes both ways until one side ends or the connection is cut."""
        server = socket.create_connection(self._target)
        counts = {client: 0, server: 0}
        limits = {client: self._after_sent, server: self._after_received}
        has_ended = False
        try:
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(65_536)
                    if not data:
                        has_ended = True
                        return
                    counts[source] += len(data)
                    limit = limits[source]
                    if limit is not None and counts[source] > limit and self._may_cut():
                        return
                    (server if source is client else client).sendall(data)
        except OSError:
            return
        finally:
            for each in (client, server):
                # A cut is a reset, so that neither side takes it for an end. At an end a reset would take back what
                # the other side has not read yet.
                with suppress(OSError):
                    if not has_ended:
                        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                each.close()
