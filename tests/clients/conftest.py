"""Fixtures: a running server, servers of a test's own, a client, and dataset names that no other test uses.

Where servers keep their data is chosen by ``PANDAS_DB_TEST_BACKEND``: see ``backends``.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import backends
import pyarrow.flight as flight
import pytest
from rest import Answer, FirstClient, call, upload_body

READY = re.compile(r"pandas-db ready flight=(grpc(?:\+tls)?://\S+?:\d+)(?: http=(https?://\S+?:\d+))?\n")
# Files of tests that take longest: they are begun first, so that at the end no worker of xdist is left alone with one.
LONGEST = {"test_slt.py", "test_differential.py", "test_compaction.py", "test_memory.py", "test_predicates.py"}
PATIENCE = 120  # Seconds after which a process that says nothing is taken for hung.

_running: list[Server] = []
_logs: list[Path] = []


def binary() -> str:
    """Return the path of the program under test."""
    path = os.environ.get("PANDAS_DB_BIN")
    if not path:
        pytest.exit("set PANDAS_DB_BIN to the pandas-db binary to test", returncode=4)
    return str(Path(path).resolve())


def clean_environment(**extra: str) -> dict[str, str]:
    """Return the environment without settings of pandas-db, and with the extra ones."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PANDAS_DB_")} | extra


class Server:
    """A running ``pandas-db serve``.

    Parameters
    ----------
    arguments : list of str
        The command line after the program's name.
    storage : Path
        The folder that ``--storage`` names; another backend has a place for it.
    log : Path
        Where its stderr goes.
    env : dict of str to str, optional
        Extra environment variables.
    cwd : Path, optional
        The working directory.

    Attributes
    ----------
    flight, http : str
        The addresses that the ready line told; ``http`` is None when it is off.
    storage : Path or ObjectPath
        Where it keeps its data.
    pid : int
    """

    def __init__(
        self, arguments: list[str], storage: Path, log: Path, env: dict | None = None, cwd: Path | None = None
    ):
        backend = backends.chosen()
        self.storage, self.log = backend.place(storage, cwd), log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [binary(), *backend.arguments(arguments, cwd)],
                bufsize=0,  # So that communicate() sees whatever follows the ready line.
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=clean_environment(**(backend.environment() | (env or {}))),
                cwd=cwd,
            )
        self.pid = self.process.pid
        _running.append(self)
        _logs.append(log)
        if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
            self.kill()
            pytest.fail(f"no ready line; stderr:\n{self.errors()}")
        self.ready = self.process.stdout.readline().decode()
        match = READY.fullmatch(self.ready)
        if not match:
            self.kill()
            pytest.fail(f"{self.ready!r} is not a ready line; stderr:\n{self.errors()}")
        self.flight, self.http = match.groups()

    def connect(self) -> flight.FlightClient:
        """Open a client of this server."""
        return flight.connect(self.flight)

    def errors(self) -> str:
        """Return what the server wrote to stderr."""
        return self.log.read_text(errors="replace")

    def peak_bytes(self) -> int:
        """Return the peak resident memory of the process."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) * 1024

    def fetch(self, path: str) -> tuple[int, str]:
        """Return the status and the body of an HTTP GET."""
        try:
            with urllib.request.urlopen(self.http + path, timeout=PATIENCE) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def signal(self, which: int) -> None:
        """Send the process a signal."""
        self.process.send_signal(which)

    def wait(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and what was printed to stdout after the ready line."""
        rest, _ = self.process.communicate(timeout=PATIENCE)
        self._forget()
        return self.process.returncode, rest.decode()

    def stop(self) -> int:
        """End the server as an operator does, and return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()[0]

    def kill(self) -> None:
        """End the server as a crash does."""
        self.process.kill()
        self.process.wait(timeout=PATIENCE)
        self.process.stdout.close()
        self._forget()

    def _forget(self) -> None:
        if self in _running:
            _running.remove(self)


def flags(**settings: object) -> list[str]:
    """Spell settings as flags: ``chunk_rows=10`` is ``--chunk-rows 10``, True a bare flag, None nothing."""
    words = []
    for key, value in settings.items():
        if value is not None and value is not False:
            words.append("--" + key.replace("_", "-"))
            words += [] if value is True else [str(value)]
    return words


def serve(home: Path, **settings: object) -> Iterator[Server]:
    """Start a server with default settings but those given, and end it as an operator does; the body of a fixture."""
    settings = {"listen": "127.0.0.1:0", "http": "127.0.0.1:0", **settings, "storage": home / "data"}
    arguments = ["serve", *flags(**settings)]
    started = Server(arguments, home / "data", home / "stderr.log")
    yield started
    if started in _running:
        assert started.stop() == 0, started.errors()


@pytest.fixture(scope="session", autouse=True)
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have what the servers keep their data in; at the end, check that it refused no server a right."""
    with backends.running(tmp_path_factory.mktemp("backend")):
        yield
    assert not (refusals := list(_refusals())), "the role of a node lacks a right:\n" + "\n".join(refusals)


def _refusals() -> Iterator[str]:
    """Yield what AWS refused to the servers of this run for want of a right, as they logged it."""
    for log in filter(Path.exists, _logs):
        yield from (f"{log}: {line}" for line in log.read_text(errors="replace").splitlines() if "AccessDenied" in line)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that do not need their own."""
    yield from serve(tmp_path_factory.mktemp("server"))


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """A function that starts servers, whose keyword arguments are flags; all are ended with the test.

    ``storage`` defaults to one folder of the test, so that a second call starts a server on what the first left.
    ``env`` and ``cwd`` are those of the process.
    """
    started: list[Server] = []

    def start(*, env: dict | None = None, cwd: Path | None = None, storage: Path | None = None, **settings) -> Server:
        storage = storage or tmp_path / "data"
        settings = {"listen": "127.0.0.1:0", "http": "127.0.0.1:0", **settings, "storage": storage}
        log = tmp_path / f"stderr-{len(started)}.log"
        started.append(Server(["serve", *flags(**settings)], storage, log, env, cwd))
        return started[-1]

    yield start
    for each in started:
        if each in _running:
            each.kill()


@pytest.fixture(scope="session")
def off_clock(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, str]]:
    """A function that gives the environment of a program whose clock is off: ahead by so many seconds, or behind."""
    source, library = Path(__file__).with_name("off_clock.c"), tmp_path_factory.mktemp("clock") / "off_clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return lambda seconds: {"LD_PRELOAD": str(library), "CLOCK_OFF_BY": str(seconds)}


@pytest.fixture
def one_server(server: Server) -> list[Server]:
    """The shared server, as the only one of its storage."""
    return [server]


@pytest.fixture
def two_servers(start_server: Callable[..., Server]) -> list[Server]:
    """Two servers of one storage."""
    return [start_server(), start_server()]


@pytest.fixture(params=["one_server", "two_servers"])
def servers(request: pytest.FixtureRequest) -> list[Server]:
    """Each way of having servers in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def client(server: Server) -> Iterator[flight.FlightClient]:
    """A client of the shared server."""
    with server.connect() as connection:
        yield connection


@pytest.fixture
def rest(server):
    """A function that makes a call to the shared server."""
    return lambda *words, **headers: call(server.http, *words, **headers)


@pytest.fixture
def upload(rest):
    """A function that uploads a frame, a list of records, or text, and returns the answer."""

    def post(frame, name: str, *, key: str | None = None, **options) -> Answer:
        headers = {"Idempotency_Key": key} if key else {}
        return rest("POST", "/dataframes/upload", upload_body(frame, name, **options), **headers)

    return post


@pytest.fixture
def first(server) -> FirstClient:
    """The first SDK's client of the shared server."""
    return FirstClient(server.http + "/", "a-token-of-another-time")


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A dataset name of this test alone."""
    words = re.sub(r"[^A-Za-z0-9_-]+", "_", request.node.name).strip("_")[:100]
    return f"{request.node.module.__name__}/{words}-{zlib.crc32(request.node.name.encode()):08x}"


def pytest_configure(config: pytest.Config) -> None:
    """Register our marks."""
    config.addinivalue_line("markers", "local_only(reason): the test is about a local disk, and runs on that alone")
    config.addinivalue_line(
        "markers", "any_backend(reason): the test comes to the same whatever is behind, and runs on a local disk"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest first. On another backend than the local disk, skip what is about that alone, and what another
    one changes nothing of.

    ``PANDAS_DB_TEST_ANY_BACKEND=1`` runs the latter all the same.
    """
    items.sort(key=lambda item: item.path.name not in LONGEST)
    if backends.name() == "local":
        return
    marks = ["local_only"] if os.environ.get("PANDAS_DB_TEST_ANY_BACKEND") == "1" else ["local_only", "any_backend"]
    for item in items:
        for mark in filter(None, map(item.get_closest_marker, marks)):
            item.add_marker(pytest.mark.skip(reason=f"{mark.name}: {mark.args[0]}"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the end of each running server's stderr with a failure."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for each in _running:
            report.sections.append((f"stderr of {each.log}", each.errors()[-4_000:]))
