"""`pandas-db serve` as an operator sees it: ready line, settings, exit codes, HTTP endpoints, draining."""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
from pathlib import Path

import conftest
import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from frames import (
    BYTES,
    CALL_SECONDS,
    CHUNKS_CONSIDERED,
    CHUNKS_PRUNED,
    CHUNKS_READ,
    LOADS,
    MEMORY,
    ROWS,
    OpenLoad,
    counted,
    get,
    load,
    load_descriptor,
    metrics,
    refused,
    sql,
)

FRAME = pa.table({"x": [1, 2, 3]})
BATCH = pa.record_batch({f"c{i}": np.arange(8_192) for i in range(8)})


def run_to_end(arguments: list[str], cwd: Path, **env: str) -> subprocess.CompletedProcess:
    """Run the program when it is expected to end by itself."""
    return subprocess.run(
        [conftest.binary(), *arguments],
        env=conftest.clean_environment(**env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=conftest.PATIENCE,
    )


def assert_refuses_to_start(arguments: list[str], cwd: Path, *mentions: str, **env: str) -> None:
    """Check for exit code 2, an empty stdout and one line on stderr that names what is wrong."""
    ended = run_to_end(["serve", "--http", "off", *arguments], cwd, **env)
    assert ended.returncode == 2, ended
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    for words in mentions:
        assert words in ended.stderr, ended.stderr


def holds_data(storage: Path) -> bool:
    """Tell whether a storage folder holds a dataset."""
    return storage.is_dir() and any(storage.rglob("_delta_log"))


# The ready line and stopping


def test_stdout_holds_the_ready_line_and_nothing_else(start_server):
    server = start_server()
    assert server.ready == f"pandas-db ready flight={server.flight} http={server.http}\n"
    with server.connect() as client:
        load(client, FRAME, "own/data")
        sql(client, "SELECT * FROM own.data")
    server.signal(signal.SIGTERM)
    assert server.wait() == (0, "")


def test_http_off_leaves_http_out_of_the_ready_line(start_server):
    server = start_server(http="off")
    assert server.ready == f"pandas-db ready flight={server.flight}\n"
    with server.connect() as client:
        load(client, FRAME, "own/data")
        assert get(client, "own/data").num_rows == 3


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_ends_with_code_0(start_server, which):
    server = start_server()
    server.signal(which)
    assert server.wait() == (0, "")


def test_sigterm_lets_a_running_load_finish_and_refuses_new_calls(start_server):
    server = start_server()
    client = server.connect()
    upload = OpenLoad(client, load_descriptor("own/data"), BATCH)
    upload.write_until_progress()
    server.signal(signal.SIGTERM)
    late = None
    for _ in range(100_000):  # Until the signal has arrived, calls are answered.
        try:
            with server.connect() as newcomer:
                list(newcomer.list_flights())
        except pa.ArrowException as error:
            late = error
            break
    assert isinstance(late, flight.FlightUnavailableError), late
    upload.write()
    result = upload.finish()
    assert (result["state"], result["total_rows"]) == ("committed", upload.rows)
    client.close()
    assert server.wait() == (0, "")
    with start_server().connect() as reader:
        assert get(reader, "own/data").num_rows == upload.rows


def test_a_load_that_outlasts_the_grace_is_cut_off_and_leaves_nothing(start_server):
    server = start_server(shutdown_grace="1s")
    client = server.connect()
    upload = OpenLoad(client, load_descriptor("own/data"), BATCH)
    upload.write_until_progress()
    server.signal(signal.SIGTERM)
    assert server.wait() == (0, "")
    with start_server().connect() as reader, refused("NOT_FOUND"):
        get(reader, "own/data")


# Settings


@pytest.mark.parametrize(
    "arguments, mentions",
    [
        (["--no-such-flag"], ["--no-such-flag"]),
        (["--listen", "nonsense"], ["listen", "nonsense"]),
        (["--listen", "127.0.0.1:99999"], ["listen", "127.0.0.1:99999"]),
        (["--http", "nonsense"], ["http", "nonsense"]),
        (["--auth", "maybe"], ["auth", "maybe"]),
        (["--storage", "ftp://host/data"], ["storage", "ftp://host/data"]),
        (["--versions", "nonsense://x"], ["versions", "nonsense://x"]),
        (["--chunk-rows", "0"], ["chunk-rows"]),
        (["--chunk-rows", "many"], ["chunk-rows", "many"]),
        (["--memory-limit", "lots"], ["memory-limit", "lots"]),
        (["--query-timeout", "soon"], ["query-timeout", "soon"]),
        (["--max-connections", "-1"], ["max-connections"]),
        (["--vacuum-after", "soon"], ["vacuum-after", "soon"]),
        (["--config", "absent.toml"], ["absent.toml"]),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) and value[0].startswith("--") else "",
)
def test_an_unusable_flag_stops_the_start(tmp_path, arguments, mentions):
    assert_refuses_to_start(arguments, tmp_path, *mentions)


@pytest.mark.parametrize(
    "text, mentions",
    [
        ('lisen = "127.0.0.1:0"', ["lisen"]),
        ('listen = "nonsense"', ["listen", "nonsense"]),
        ("listen = 7", ["listen"]),
        ("listen = ", ["settings.toml"]),
        ('[section]\nlisten = "127.0.0.1:0"', ["section"]),
    ],
    ids=["unknown_key", "unusable_value", "wrong_type", "not_toml", "section"],
)
def test_an_unusable_file_stops_the_start(tmp_path, text, mentions):
    (tmp_path / "settings.toml").write_text(text)
    assert_refuses_to_start(["--config", "settings.toml"], tmp_path, *mentions)


def test_an_unusable_environment_variable_stops_the_start(tmp_path):
    assert_refuses_to_start([], tmp_path, "nonsense", PANDAS_DB_LISTEN="nonsense")


def test_a_storage_that_is_a_file_stops_the_start(tmp_path):
    (tmp_path / "taken").write_text("not a folder")
    assert_refuses_to_start(["--listen", "127.0.0.1:0", "--storage", "taken"], tmp_path, "taken")


def test_no_auth_on_a_public_address_is_refused(tmp_path):
    assert_refuses_to_start(["--listen", "0.0.0.0:0"], tmp_path, "--insecure")


def test_no_auth_on_a_public_address_starts_with_insecure(start_server):
    server = start_server(listen="0.0.0.0:0", insecure=True)
    assert server.stop() == 0


@pytest.mark.local_only("it tells by the folder that was written to which setting was taken")
@pytest.mark.parametrize("winner", ["flag", "env", "file"])
def test_flag_beats_environment_beats_file(tmp_path, start_server, winner):
    """The storage that is written to tells which setting was taken."""
    folders = {source: tmp_path / source for source in ("flag", "env", "file")}
    (tmp_path / "settings.toml").write_text(f'storage = "{folders["file"]}"\nlisten = "127.0.0.1:0"\nhttp = "off"\n')
    arguments = ["serve", "--config", str(tmp_path / "settings.toml")]
    if winner == "flag":
        arguments += ["--storage", str(folders["flag"])]
    env = {} if winner == "file" else {"PANDAS_DB_STORAGE": str(folders["env"])}
    server = conftest.Server(arguments, folders[winner], tmp_path / "stderr.log", env)
    try:
        with server.connect() as client:
            load(client, FRAME, "own/data")
    finally:
        server.kill()
    assert [source for source, folder in folders.items() if holds_data(folder)] == [winner]


@pytest.mark.local_only("the default storage is a folder")
def test_no_arguments_at_all_serve_with_the_defaults(tmp_path):
    """Only the addresses are set, by the environment; the storage is the default one below the working folder."""
    env = {"PANDAS_DB_LISTEN": "127.0.0.1:0", "PANDAS_DB_HTTP": "127.0.0.1:0"}
    server = conftest.Server([], tmp_path / "pandas-db-data", tmp_path / "stderr.log", env, cwd=tmp_path)
    try:
        with server.connect() as client:
            load(client, FRAME, "own/data")
    finally:
        assert server.stop() == 0
    assert holds_data(tmp_path / "pandas-db-data")


def test_an_environment_variable_spells_dashes_as_underscores(start_server):
    server = start_server(env={"PANDAS_DB_CHUNK_ROWS": "10"})
    with server.connect() as client:
        table = pa.table({"day": pa.array([0] * 100, pa.date32()), "x": range(100)})
        assert load(client, table, "own/data", columns_keys={"day": "Date"})["chunks_total"] >= 5


def test_an_address_in_use_is_one_clear_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run_to_end(["serve", "--listen", address, "--http", "off", "--storage", "data"], tmp_path)
    assert ended.returncode != 0
    assert ended.stdout == ""
    assert address in ended.stderr


def test_a_server_may_open_as_many_files_as_the_system_allows(start_server):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1_024, soft - 1), hard))
    try:
        server = start_server()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.prlimit(server.pid, resource.RLIMIT_NOFILE) == (hard, hard)


# HTTP


def test_health_and_readiness_answer_200(server):
    assert server.fetch("/healthz")[0] == 200
    assert server.fetch("/readyz")[0] == 200
    assert server.fetch("/no/such/page")[0] == 404


def test_metrics_are_prometheus_text(server, client, name):
    load(client, FRAME, name)
    status, text = server.fetch("/metrics")
    assert status == 200
    assert f"# TYPE {CALL_SECONDS} histogram" in text
    assert f"# TYPE {MEMORY} gauge" in text
    for counter in (LOADS, ROWS, BYTES, CHUNKS_CONSIDERED, CHUNKS_PRUNED, CHUNKS_READ):
        base = counter.removesuffix("_total")
        assert f"# TYPE {base} counter" in text or f"# TYPE {counter} counter" in text
    assert metrics(server)[MEMORY] > 1_000_000


def test_a_load_and_a_read_are_counted(server, client, name):
    table = pa.table({"day": pa.array([1, 2, 2], pa.date32()), "x": [1, 2, 3]})
    with counted(server) as rise:
        load(client, table, name, columns_keys={"day": "Date"})
    assert rise[LOADS] == 1
    assert rise[ROWS] == 3
    assert rise[BYTES] >= 3 * (4 + 8)
    assert rise[CALL_SECONDS + "_count"] >= 1
    assert rise[CALL_SECONDS + "_bucket"] >= 1
    assert rise[CALL_SECONDS + "_sum"] > 0
    with counted(server) as rise:
        assert get(client, name).num_rows == 3
    assert rise[CHUNKS_READ] == 2
    assert rise[LOADS] == rise[ROWS] == 0


def test_a_failed_load_adds_no_rows(server, client, name):
    with counted(server) as rise, refused("INVALID_ARGUMENT"):
        load(client, FRAME, name, total_rows=4)
    assert rise[ROWS] == 0
