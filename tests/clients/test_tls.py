"""TLS on both ports: versions and protocols, clients of every kind, client certificates, and files that change."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
import subprocess
import urllib.request
from pathlib import Path

import adbc_driver_flightsql.dbapi as adbc
import callers
import conftest
import pyarrow.flight as flight
import pytest
from adbc_driver_flightsql import DatabaseOptions
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from frames import FLIGHT_ERRORS, get, list_names, load
from test_serve import assert_refuses_to_start

pytestmark = pytest.mark.any_backend("it is about connections")


class Authority:
    """A certificate authority."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.key = folder, ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key.public_key(), is_authority=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(self, subject: x509.Name, public: ec.EllipticCurvePublicKey, *, is_authority: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)
        addresses = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def issue(self, name: str) -> tuple[Path, Path]:
        """Issue a certificate; return its file and that of its key. A second one of a name takes their place."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key.public_key(), is_authority=False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        files = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        for file, content in zip(files, (certificate.public_bytes(serialization.Encoding.PEM), private)):
            fresh = file.with_suffix(file.suffix + ".new")
            fresh.write_bytes(content)
            os.replace(fresh, file)
        return files


@pytest.fixture
def authority(tmp_path):
    """An authority that clients trust."""
    return Authority(tmp_path, "authority")


@pytest.fixture
def files(authority):
    """The certificate of a server, and its key."""
    return authority.issue("server")


@pytest.fixture
def tls_server(start_server, files):
    """A server with TLS."""
    return start_server(tls_cert=files[0], tls_key=files[1])


def connect(server: conftest.Server, authority: Authority, **options) -> flight.FlightClient:
    """Open a Flight client that trusts the authority."""
    return flight.connect(server.flight, tls_root_certs=authority.file.read_bytes(), **options)


def port(address: str) -> int:
    """Return the port of an address."""
    return int(address.rsplit(":", 1)[1])


def shake_hands(address: str, authority: Authority, **settings) -> ssl.SSLSocket:
    """Shake hands with a port and return the connection."""
    context = ssl.create_default_context(cafile=str(authority.file))
    protocols = settings.pop("protocols", None)
    if protocols:
        context.set_alpn_protocols(protocols)
    for name, value in settings.items():
        setattr(context, name, value)
    plain = socket.create_connection(("127.0.0.1", port(address)), timeout=conftest.PATIENCE)
    return context.wrap_socket(plain, server_hostname="localhost")


def serial(address: str, authority: Authority) -> int:
    """Return the serial number of the certificate that a port shows."""
    with shake_hands(address, authority) as connection:
        return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True)).serial_number


def test_the_ready_line_says_so_and_clients_connect(tls_server, authority):
    assert tls_server.ready == f"pandas-db ready flight={tls_server.flight} http={tls_server.http}\n"
    assert tls_server.flight.startswith("grpc+tls://") and tls_server.http.startswith("https://")
    with connect(tls_server, authority) as client:
        load(client, callers.FRAME, "data")
        assert get(client, "data").num_rows == 1
    trusted = ssl.create_default_context(cafile=str(authority.file))
    with urllib.request.urlopen(tls_server.http + "/healthz", context=trusted, timeout=conftest.PATIENCE) as response:
        assert response.status == 200
    options = {DatabaseOptions.TLS_ROOT_CERTS.value: authority.file.read_text()}
    with adbc.connect(tls_server.flight, db_kwargs=options) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT x FROM data")
        assert cursor.fetchall() == [(1,)]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name)
def test_versions_that_are_safe_are_spoken(tls_server, authority, version):
    settings = {"minimum_version": version, "maximum_version": version}
    with shake_hands(tls_server.flight, authority, **settings, protocols=["h2"]) as connection:
        assert connection.selected_alpn_protocol() == "h2"


def test_versions_and_protocols_that_are_not_are_refused(tls_server, authority):
    with pytest.warns(DeprecationWarning), pytest.raises((ssl.SSLError, OSError)):
        version = ssl.TLSVersion.TLSv1_1
        shake_hands(tls_server.flight, authority, minimum_version=version, maximum_version=version)
    with pytest.raises((ssl.SSLError, OSError)):
        shake_hands(tls_server.flight, authority, protocols=["http/1.1"]).read()
    with connect(tls_server, authority) as client:
        assert list_names(client) == []


def test_strangers_and_plain_text_get_nowhere_and_hinder_nobody(tls_server, authority, tmp_path):
    plain = f"grpc://127.0.0.1:{port(tls_server.flight)}"
    with flight.connect(plain) as client, pytest.raises(FLIGHT_ERRORS):
        list_names(client)
    stranger = Authority(tmp_path, "stranger")
    with connect(tls_server, stranger) as client, pytest.raises(FLIGHT_ERRORS):
        list_names(client)
    # Some who connect and say nothing.
    silent = [socket.create_connection(("127.0.0.1", port(tls_server.flight))) for _ in range(20)]
    with connect(tls_server, authority) as client:
        assert list_names(client) == []
    for each in silent:
        each.close()


def command(server: conftest.Server, *arguments: str, **env: str) -> subprocess.CompletedProcess:
    """Run a command of the command line against a server."""
    return subprocess.run(
        [conftest.binary(), "ls", "--server", server.flight, *arguments],
        env=conftest.clean_environment(**env),
        capture_output=True,
        text=True,
        timeout=conftest.PATIENCE,
    )


def test_the_command_line_speaks_tls(tls_server, authority):
    with connect(tls_server, authority) as client:
        load(client, callers.FRAME, "seen")
    by_option, by_environment = ["--tls-ca", str(authority.file)], {"SSL_CERT_FILE": str(authority.file)}
    for ended in (command(tls_server, *by_option), command(tls_server, **by_environment)):
        assert ended.returncode == 0 and "seen" in ended.stdout, ended
    ended = command(tls_server)
    assert ended.returncode == 1 and "UnknownIssuer" in ended.stderr, ended
    ended = command(tls_server, "--tls-ca", str(authority.folder / "missing.pem"))
    assert ended.returncode == 1 and "--tls-ca" in ended.stderr, ended


def test_client_certificates_are_wanted_when_an_authority_is_named(start_server, authority, files, tmp_path):
    clients = Authority(tmp_path, "clients")
    server = start_server(tls_cert=files[0], tls_key=files[1], tls_client_ca=clients.file)

    def names(issuer: Authority | None) -> list[str]:
        options = {}
        if issuer is not None:
            certificate, key = issuer.issue("client")
            options = {"cert_chain": certificate.read_bytes(), "private_key": key.read_bytes()}
        with connect(server, authority, **options) as client:
            return list_names(client)

    assert names(clients) == []
    for stranger in (None, authority):
        with pytest.raises(FLIGHT_ERRORS):
            names(stranger)
    certificate, key = (str(file) for file in clients.issue("client"))
    trust, own = ["--tls-ca", str(authority.file)], ["--tls-client-cert", certificate, "--tls-client-key", key]
    assert command(server, *trust, *own).returncode == 0
    named = {"PANDAS_DB_TLS_CLIENT_CERT": certificate, "PANDAS_DB_TLS_CLIENT_KEY": key}
    assert command(server, *trust, **named).returncode == 0
    for arguments, mentions in (
        ([], "CertificateRequired; the server asks for a client certificate, which --tls-client-cert names"),
        (own[:2], "--tls-client-key"),
        (own[2:], "--tls-client-cert"),
        ([*own[:3], certificate], "--tls-client-key"),
        ([own[0], key, *own[2:]], "--tls-client-cert"),
    ):
        ended = command(server, *trust, *arguments)
        assert ended.returncode == 1 and mentions in ended.stderr, ended
    trusted = ssl.create_default_context(cafile=str(authority.file))
    with pytest.raises(OSError):
        urllib.request.urlopen(server.http + "/healthz", context=trusted, timeout=conftest.PATIENCE)


def test_a_new_certificate_is_shown_without_a_restart_and_a_damaged_one_is_not(tls_server, authority, files):
    with connect(tls_server, authority) as before:
        assert list_names(before) == []
        for address in (tls_server.flight, tls_server.http):
            old = serial(address, authority)
            authority.issue("server")
            new = serial(address, authority)
            assert new != old
            files[0].write_text("no certificate")
            assert serial(address, authority) == new
            authority.issue("server")
            assert serial(address, authority) not in (old, new)
        assert list_names(before) == []


def test_files_that_cannot_be_used_stop_the_start(tmp_path, authority, files):
    certificate, key = (str(file) for file in files)
    _, other_key = authority.issue("other")
    missing, damaged = str(tmp_path / "missing.pem"), tmp_path / "damaged.pem"
    damaged.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    listen = ["--listen", "127.0.0.1:0"]
    for words, mention in (
        (["--tls-cert", certificate], "--tls-key"),
        (["--tls-key", key], "--tls-cert"),
        (["--tls-client-ca", certificate], "--tls-cert"),
        (["--tls-cert", missing, "--tls-key", key], "--tls-cert"),
        (["--tls-cert", certificate, "--tls-key", missing], "--tls-key"),
        (["--tls-cert", key, "--tls-key", key], "--tls-cert"),
        (["--tls-cert", certificate, "--tls-key", certificate], "--tls-key"),
        (["--tls-cert", certificate, "--tls-key", str(other_key)], "--tls-cert"),
        (["--tls-cert", str(damaged), "--tls-key", key], "--tls-cert"),
        (["--tls-cert", certificate, "--tls-key", key, "--tls-client-ca", key], "--tls-client-ca"),
    ):
        assert_refuses_to_start([*listen, *words], tmp_path, mention)
