"""TLS: only a server whose certificate leads to the given ones is talked to."""

from __future__ import annotations

import http.server
import ssl
import threading
from contextlib import contextmanager

import pyarrow.flight as flight
import pytest
import trustme

from pandas_db_sdk import DataFrameClient, UnavailableError

AUTHORITY, STRANGER = trustme.CA(), trustme.CA()
CERTIFICATE = AUTHORITY.issue_cert("localhost", "127.0.0.1")
ROOT = AUTHORITY.cert_pem.bytes()


class Empty(flight.FlightServerBase):
    """A Flight server without datasets."""

    def list_flights(self, context, criteria):
        return iter(())


class EmptyRest(http.server.BaseHTTPRequestHandler):
    """The REST API of a server without datasets."""

    def do_GET(self) -> None:
        body = b'{"dataframes": []}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(kind: str, *, wants_client: bool = False):
    """Run a server that speaks TLS alone, of either kind; it gives its address."""
    chain = b"".join(blob.bytes() for blob in CERTIFICATE.cert_chain_pems)
    if kind == "flight":
        keys = [(chain, CERTIFICATE.private_key_pem.bytes())]
        options = {"verify_client": True, "root_certificates": ROOT} if wants_client else {}
        with Empty("grpc+tls://127.0.0.1:0", tls_certificates=keys, **options) as node:
            yield f"grpc+tls://localhost:{node.port}"
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CERTIFICATE.configure_cert(context)
    if wants_client:
        AUTHORITY.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), EmptyRest) as node:
        node.socket = context.wrap_socket(node.socket, server_side=True)
        thread = threading.Thread(target=node.serve_forever)
        thread.start()
        yield f"https://localhost:{node.server_port}"
        node.shutdown()
        thread.join()


@pytest.fixture(params=["flight", "rest"])
def address(request):
    """The address of a server that speaks TLS alone."""
    with serving(request.param) as address:
        yield address


def test_certificates_that_lead_to_the_given_ones(address, tmp_path):
    (tmp_path / "root.pem").write_bytes(ROOT)
    for certs in (ROOT, str(tmp_path / "root.pem"), tmp_path / "root.pem"):
        with DataFrameClient(address, "secret", tls_root_certs=certs) as client:
            assert client.list_dataframes() == []


@pytest.mark.parametrize("certs", [None, STRANGER.cert_pem.bytes()], ids=["of_the_system", "of_a_stranger"])
def test_other_certificates_are_refused(address, certs):
    with DataFrameClient(address, tls_root_certs=certs, attempts=1) as client:
        with pytest.raises(UnavailableError) as caught:
            client.list_dataframes()
        assert not caught.value.from_server


def written(folder, certificate):
    """Write the certificate of a client and its key; return the arguments that name the files."""
    chain, key = folder / "client.pem", folder / "client.key"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(key))
    return {"tls_client_cert": chain, "tls_client_key": str(key)}


@pytest.mark.parametrize("kind", ["flight", "rest"])
def test_a_server_that_wants_a_certificate_of_its_clients_gets_it(kind, tmp_path):
    own = written(tmp_path, AUTHORITY.issue_cert("ann@example.org"))
    with serving(kind, wants_client=True) as address:
        with DataFrameClient(address, tls_root_certs=ROOT, **own) as client:
            assert client.list_dataframes() == []
        strange = written(tmp_path, STRANGER.issue_cert("ann@example.org"))
        for shown in ({}, strange):
            client = DataFrameClient(address, tls_root_certs=ROOT, attempts=1, **shown)
            with client, pytest.raises(UnavailableError):
                client.list_dataframes()


def test_client_certificates_that_cannot_be_are_refused(tmp_path):
    own = written(tmp_path, AUTHORITY.issue_cert("ann@example.org"))
    for arguments, mentions in (
        ({"tls_client_cert": own["tls_client_cert"]}, "tls_client_key"),
        ({"tls_client_key": own["tls_client_key"]}, "tls_client_cert"),
        (own | {"tls_client_cert": tmp_path / "missing.pem"}, "missing.pem"),
    ):
        with pytest.raises(ValueError, match=mentions):
            DataFrameClient("grpc+tls://localhost:1", **arguments)
