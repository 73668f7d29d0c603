"""The certificates of connections with TLS."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Tls:
    """What a connection trusts, and what it shows.

    Parameters
    ----------
    root_certs : bytes, optional
        Certificates in PEM that the server's must lead to; None takes those of the system.
    client_cert, client_key : str, optional
        Files in PEM: the certificate chain to show a server that wants one of its clients, and the private key.
    """

    root_certs: bytes | None = None
    client_cert: str | None = None
    client_key: str | None = None

    @classmethod
    def read(
        cls,
        root_certs: str | os.PathLike[str] | bytes | None,
        client_cert: str | os.PathLike[str] | None,
        client_key: str | os.PathLike[str] | None,
    ) -> Tls:
        """Return what the arguments of the client say.

        Raises
        ------
        ValueError
            When a file cannot be read, or a certificate is given without its key or a key without its certificate.
        """
        if (client_cert is None) != (client_key is None):
            raise ValueError("tls_client_cert and tls_client_key belong together; give both")
        for name, file in (("tls_client_cert", client_cert), ("tls_client_key", client_key)):
            if file is not None:
                _read(name, file)
        roots = _read("tls_root_certs", root_certs) if isinstance(root_certs, (str, os.PathLike)) else root_certs
        files = (None if file is None else os.fspath(file) for file in (client_cert, client_key))
        return cls(roots, *files)

    def of_flight(self) -> dict[str, Any]:
        """Return the arguments of a Flight connection."""
        options: dict[str, Any] = {"tls_root_certs": self.root_certs} if self.root_certs else {}
        if self.client_cert and self.client_key:
            options["cert_chain"] = _read("tls_client_cert", self.client_cert)
            options["private_key"] = _read("tls_client_key", self.client_key)
        return options

    def of_http(self) -> ssl.SSLContext | None:
        """Return the context of HTTP connections; None for the default one."""
        if not self.root_certs and not self.client_cert:
            return None
        context = ssl.create_default_context(cadata=self.root_certs.decode("ascii") if self.root_certs else None)
        if self.client_cert:
            try:
                context.load_cert_chain(self.client_cert, self.client_key)
            except (OSError, ssl.SSLError) as error:
                raise ValueError(f"tls_client_cert {self.client_cert!r} cannot be used: {error}") from error
        return context


def _read(name: str, file: str | os.PathLike[str]) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read()
    except OSError as error:
        raise ValueError(f"{name}: {file!r} cannot be read: {error}") from error
