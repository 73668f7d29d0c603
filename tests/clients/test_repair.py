"""``pandas-db repair``: the version records are lost or wrong, and are made anew from the logs."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from pathlib import Path

import conftest
import pytest
from frames import get, list_names, load, refused, sql
from versions import delete_dataframe, frame, list_versions, root_of, values

pytestmark = pytest.mark.local_only("it takes the file of the version records away")

NAMES = ["a", "a/b", "müller/東京 1", "z"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The storage folder of the test's servers."""
    return tmp_path / "data"


def repair(home: Path, *options: str) -> tuple[int, list[str]]:
    """Run the command; return its exit code and the lines of stdout."""
    command = [conftest.binary(), "repair", "--storage", str(home), *options]
    ended = subprocess.run(command, env=conftest.clean_environment(), capture_output=True, text=True, timeout=120)
    return ended.returncode, ended.stdout.splitlines()


def lose_records(home: Path) -> None:
    """Take the version records away."""
    for path in home.glob("versions.db*"):
        path.unlink()


def records(home: Path) -> list[tuple]:
    """Return what stands in the version records."""
    with sqlite3.connect(home / "versions.db") as connection:
        return sorted(connection.execute("select * from dataset").fetchall())


def change_records(home: Path, statement: str, *arguments: object) -> None:
    """Change the version records by hand."""
    with sqlite3.connect(home / "versions.db") as connection:
        connection.execute(statement, arguments)


def everything(client) -> dict:
    """Return the rows and the versions of each dataset."""
    return {
        name: (get(client, name).to_pylist(), list_versions(client, name, include_replaced=True))
        for name in list_names(client)
    }


@pytest.fixture
def stored(start_server, home):
    """What is read of four datasets, one of them made anew, and one that ended; the records agree with the logs."""
    server = start_server()
    with server.connect() as client:
        for number, name in enumerate(NAMES):
            load(client, frame(number, number + 1), name)
            load(client, frame(number * 10), name, external_key="k", keep_last=number % 2 == 0)
        load(client, frame(99), "ended")
        delete_dataframe(client, "ended")
        delete_dataframe(client, "z")
        load(client, frame(7), "z")
        before = everything(client)
    assert server.stop() == 0
    return before


def test_lost_records_come_back_as_they_were(start_server, stored, home):
    wanted = records(home)
    lose_records(home)
    code, lines = repair(home, "--dry-run")
    assert code == 0 and all(line.startswith("would: ") for line in lines[:-1]), lines
    assert records(home) == []
    code, lines = repair(home)
    assert code == 0, lines
    named = [name for name in NAMES if any(f"'{name}'" in line and "its name again" in line for line in lines)]
    assert named == NAMES, lines
    assert lines[-1] == f"{len(lines) - 1} repaired, 0 to decide"
    assert records(home) == wanted
    with start_server().connect() as client:
        assert everything(client) == stored
        with refused("NOT_FOUND"):
            get(client, "ended")
        load(client, frame(5), "a")
        assert values(client, "a")[-1] == 5
        assert sql(client, 'SELECT count(*) AS n FROM "a"."b"').to_pylist() == [{"n": len(stored["a/b"][0])}]


def test_a_second_repair_finds_nothing(stored, home):
    assert repair(home) == (0, ["0 repaired, 0 to decide"])
    lose_records(home)
    assert repair(home)[0] == 0
    assert repair(home) == (0, ["0 repaired, 0 to decide"])


def test_stale_totals_and_names_that_ended_are_put_right(stored, home):
    """As a crash leaves them between the log and the records."""
    wanted = records(home)
    change_records(home, "update dataset set log_version = 0, rows = 12345, version = 1 where name = 'a'")
    ended = "select table_id, tenant, 'y' from forgotten limit 1"
    change_records(home, f"insert into dataset (table_id, tenant, name) {ended}")
    code, lines = repair(home)
    assert code == 0 and len(lines) == 3, lines
    assert any("'a'" in line and "totals" in line for line in lines), lines
    assert any("'y'" in line and "its name is free" in line for line in lines), lines
    assert records(home) == wanted


def test_a_server_may_run_meanwhile(start_server, stored, home):
    server = start_server()
    with server.connect() as client:
        assert repair(home) == (0, ["0 repaired, 0 to decide"])
        load(client, frame(1), "new")
        assert repair(home) == (0, ["0 repaired, 0 to decide"])
        assert values(client, "new") == [1]


def test_of_two_tables_of_one_name_an_operator_decides(start_server, stored, home):
    """The records were lost, and a dataset was loaded anew under its old name before anybody repaired them."""
    lose_records(home)
    server = start_server()
    with server.connect() as client:
        load(client, frame(4), "a")
    assert server.stop() == 0
    code, lines = repair(home)
    assert code == 1 and any("--newest-wins" in line and "'a'" in line for line in lines), lines
    code, lines = repair(home, "--newest-wins")
    assert code == 0 and any("newer table has its name" in line for line in lines), lines
    assert repair(home) == (0, ["0 repaired, 0 to decide"])
    with start_server().connect() as client:
        assert values(client, "a") == [4]
        assert {name: rest for name, rest in everything(client).items() if name != "a"} == {
            name: rest for name, rest in stored.items() if name != "a"
        }


def test_the_name_goes_to_the_newest_where_nothing_has_it(start_server, stored, home):
    """A replaced table whose end a crash kept out of its log."""
    server = start_server()
    with server.connect() as client:
        old = root_of(client, "a")
    assert server.stop() == 0
    lose_records(home)
    server = start_server()
    with server.connect() as client:
        load(client, frame(4), "a")
    assert server.stop() == 0
    lose_records(home)
    code, lines = repair(home)
    assert code == 1 and any(old.name in line and "--newest-wins" in line for line in lines), lines
    with start_server().connect() as client:
        assert values(client, "a") == [4]


def test_a_log_that_was_moved_gives_no_name(stored, home):
    """What lies in another tenant's folder than its log says is left alone, and so is a log that says nothing."""
    (table, *_) = sorted((home / "tenants" / "default").iterdir())
    (home / "tenants" / "other").mkdir()
    shutil.move(table, home / "tenants" / "other" / table.name)
    stray = home / "tenants" / "default" / "stray" / "_delta_log"
    stray.mkdir(parents=True)
    (stray / ("0" * 20 + ".json")).write_text('{"commitInfo":{"timestamp":0}}\n')
    lose_records(home)
    code, lines = repair(home)
    assert code == 1 and any("lies elsewhere" in line for line in lines), lines
    assert any("stray" in line and "left alone" in line for line in lines), lines
    assert all(record[1] == "default" for record in records(home))


def test_a_log_that_is_gone_is_told(stored, home):
    (table, *_) = records(home)
    shutil.rmtree(home / "tenants" / "default" / table[0])
    code, lines = repair(home)
    assert code == 1 and any("the log has not" in line for line in lines), lines
