"""Names of another's data in every field, and names of tenants, datasets and rules that are alike.

Who asks may do everything, but elsewhere: in another tenant, or in the same tenant next door.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import callers
import conftest
import flight_sql as fs
import pyarrow as pa
import pytest
import rights_stage
import wire
from frames import get, list_names, load, refused
from rights import ABSENT, COLUMN, IDEMPOTENCY_KEY, KEY, NAME, NEIGHBOUR, TENANT, Answer, Caller, attempt
from rights_calls import rows_after
from rights_stage import FRAME, OUTSIDERS, OWN, REFUSED, Stage
from rights_statements import put, table
from wire import text

pytestmark = pytest.mark.any_backend("it is about who may do what")

stage, before = rights_stage.fixtures()


def disguises(stage: Stage, name: str) -> dict[str, str]:
    """Return names that might reach a dataset which is not the caller's."""
    place = unquote(urlsplit(stage.location()).path)
    folder = Path(place).name
    return {
        "tenant before": f"{TENANT}/{name}",
        "tenant and catalog": f"pandas_db/{TENANT}/{name}",
        "up": f"../{TENANT}/{name}",
        "up from own": f"{NEIGHBOUR}/../{name}",
        "up, escaped": f"..%2F{TENANT}%2F{name}",
        "here": f"./{name}",
        "root": f"/{name}",
        "end": f"{name}/",
        "twice": name.replace("/", "//"),
        "backslash": name.replace("/", "\\"),
        "slash of another script": name.replace("/", "\u2215"),
        "full width": name.replace("/", "\uff0f"),
        "zero": name + "\0",
        "line": name + "\n",
        "space": name + " ",
        "soft hyphen": name + "\u00ad",
        "last": name + "@last",
        "versions": name + "$versions",
        "version": name + "@version=1",
        "place": place,
        "url": stage.location(),
        "folder": folder,
        "folder in tenant": f"{TENANT}/{folder}",
        "log": f"{folder}/_delta_log",
        "capitals": name.upper(),
    }


def fields(name: str) -> dict[str, object]:
    """Return a call for every field that names a dataset; each is a function of the caller."""
    body = {"dataframe_name": name}
    *schema, last = name.split("/")
    schema = "/".join(schema)
    sql_name = f'"{schema}"."{last}"' if schema else f'"{last}"'
    ingest = fs.ingest(last, schema=schema, mode=fs.MODES["append"])
    calls = {
        "DoGet": lambda caller: caller.flight("DoGet", text(1, json.dumps(body))),
        "DoGet Any": lambda caller: caller.flight("DoGet", text(1, wire.get_dataframe(body))),
        "path": lambda caller: caller.flight("GetFlightInfo", wire.path_descriptor(*name.split("/"))),
        "path of one": lambda caller: caller.flight("GetSchema", wire.path_descriptor(name)),
        "SQL": lambda caller: caller.fetch(fs.statement(f"SELECT * FROM {sql_name}")),
        "SQL catalog": lambda caller: caller.fetch(fs.statement(f"SELECT * FROM {TENANT}.{sql_name}")),
        "SQL word": lambda caller: caller.fetch(fs.statement(f'SELECT * FROM "{name}"')),
        "SQL text": lambda caller: caller.fetch(fs.statement("SELECT * FROM '" + name.replace("'", "''") + "'")),
        "update": lambda caller: caller.flight("DoPut", put(fs.update(f"DELETE FROM {sql_name}"))),
        "ingest": lambda caller: caller.flight("DoPut", *rows_after(wire.command_descriptor(ingest))),
    }
    for kind in ("list_versions", "describe_dataframe", "delete_dataframe", "set_retention", "compact", "vacuum"):
        calls[kind] = lambda caller, kind=kind: caller.ours(kind, name)
    calls["delete_version"] = lambda caller: caller.ours("delete_version", name, version=1)
    for method in ("GET", "DELETE"):
        calls[method] = lambda caller, method=method: caller.http(method, "/dataframes/" + quote(name, safe="/"))
        calls[f"{method} escaped"] = lambda caller, method=method: caller.http(
            method, "/dataframes/" + quote(name, safe="")
        )
    return calls


@pytest.mark.parametrize("role", OUTSIDERS)
def test_no_name_reaches_another_s_dataset(stage, before, role):
    words = stage.hidden()
    with stage.caller(role) as caller:
        for disguise, name in {"plain": NAME, **disguises(stage, NAME)}.items():
            # What the caller wrote may come back.
            secret = [word for word in words if word not in name.encode() and word != COLUMN.encode()]
            for field, call in fields(name).items():
                answer = attempt(call, caller)
                assert answer.code in REFUSED, f"{disguise} by {field}: {answer.code}: {answer.told[:300]}"
                found = [word for word in secret if word in answer.told and word.decode("latin-1") not in quote(name)]
                assert found == [], f"{disguise} by {field}: {answer.told[:300]}"
        assert caller.ours("describe_dataframe", OWN).code == "OK"
    assert stage.state() == before


def smuggled(name: str) -> dict[str, object]:
    """Return calls on the caller's own dataset that name another's in a field that is not for that."""
    hidden, own = table(name), table(OWN)
    frame = {"dataframe_name": OWN}

    def read(**more: object):
        return lambda caller: caller.flight("DoGet", text(1, json.dumps(frame | more)))

    def run(sql: str):
        return lambda caller: caller.fetch(fs.statement(sql))

    return {
        "filter": read(filter=f"EXISTS (SELECT 1 FROM {hidden})"),
        "filter in": read(filter=f"x IN (SELECT {COLUMN} FROM {hidden})"),
        "filter broken out of": read(filter=f"TRUE) UNION ALL (SELECT {COLUMN} FROM {hidden}"),
        "filter with a statement": read(filter=f"TRUE; DROP TABLE {hidden}"),
        "filter with a comment": read(filter=f"TRUE --\nUNION SELECT * FROM {hidden}"),
        "columns": read(columns=[f"{name}.{COLUMN}"]),
        "columns of SQL": read(columns=[f"(SELECT {COLUMN} FROM {hidden})"]),
        "external key": read(external_key=f"{name}@{KEY}"),
        "key of the other": read(external_key=KEY),
        "as of": read(as_of=f"(SELECT created_at FROM {hidden})"),
        "insert": run(f"INSERT INTO {own} SELECT {COLUMN} FROM {hidden}"),
        "update": run(f"UPDATE {own} SET x = (SELECT max({COLUMN}) FROM {hidden})"),
        "delete": run(f"DELETE FROM {own} WHERE x NOT IN (SELECT {COLUMN} FROM {hidden})"),
        "merge": run(
            f"MERGE INTO {own} t USING {hidden} s ON t.x = s.{COLUMN} "
            f"WHEN NOT MATCHED THEN INSERT (x) VALUES (s.{COLUMN})"
        ),
        "create": run(f"CREATE TABLE {NEIGHBOUR}.copy AS SELECT * FROM {hidden}"),
        "create like": run(f"CREATE TABLE {NEIGHBOUR}.copy LIKE {hidden}"),
        "view": run(f"CREATE VIEW {NEIGHBOUR}.seen AS SELECT * FROM {hidden}"),
        "external table": run(f"CREATE EXTERNAL TABLE seen STORED AS PARQUET LOCATION '{name}'"),
        "copy": run(f"COPY (SELECT * FROM {own}) TO '/tmp/{name}' STORED AS CSV"),
        "copy from": run(f"COPY (SELECT * FROM {hidden}) TO '/tmp/copy' STORED AS CSV"),
        "lateral": run(f"SELECT * FROM {own} a, LATERAL (SELECT * FROM {hidden} b WHERE b.{COLUMN} > a.x) c"),
        "columns shown": run(f"SHOW COLUMNS FROM {hidden}"),
        "described": run(f"DESCRIBE {hidden}"),
        "prepared": lambda caller: caller.fetch(fs.prepared_query(caller.prepare(f"SELECT * FROM {hidden}"))),
        "schema of the session": _in_schema,
        "ingest catalog": lambda caller: caller.flight(
            "DoPut", *rows_after(wire.command_descriptor(_ingest_into(TENANT, name)))
        ),
    }


def _in_schema(caller: Caller) -> Answer:
    schema, last = NAME.split("/")
    option = text(1, text(1, "schema") + text(2, fs.write_option(schema)))
    caller.must("DoAction", text(1, "SetSessionOptions") + text(2, option))
    return caller.fetch(fs.statement(f"SELECT * FROM {last}"))


def _ingest_into(catalog: str, name: str) -> bytes:
    schema, last = name.split("/")
    return fs.ingest(last, catalog=catalog, schema=schema, mode=fs.MODES["append"])


@pytest.mark.parametrize("role", OUTSIDERS)
def test_no_field_smuggles_another_s_dataset_into_a_call(stage, before, role):
    words = [word for word in stage.hidden() if word not in (COLUMN.encode(), KEY.encode())]
    with stage.caller(role) as caller, callers.client_of(stage.server.flight, caller.header) as client:
        for what, call in smuggled(NAME).items():
            answer = attempt(call, caller)
            assert answer.code in (*REFUSED, "UNIMPLEMENTED"), f"{what}: {answer.code}: {answer.told[:300]}"
            assert [word for word in words if word in answer.told] == [], f"{what}: {answer.told[:300]}"
            # It is what is said of a name that nobody has.
            with stage.caller(role) as again:
                other = attempt(smuggled(ABSENT)[what], again) if what != "schema of the session" else answer
            assert answer.told.replace(b"secret_zq", b"absent_zq") == other.told.replace(b"secret_zq", b"absent_zq"), (
                what
            )
        assert list_names(client) == [OWN]
        assert get(client, OWN)["x"].to_pylist() == [1]
    assert stage.state() == before


@pytest.mark.parametrize("role", OUTSIDERS)
def test_listings_show_what_the_caller_may_read_whatever_is_asked_for(stage, before, role):
    words = stage.hidden()
    prefixes = ["", "m", "matrix", "matrix/", NAME, f"{TENANT}/", f"../{TENANT}", "%", "*", "..", "/", "\0"]
    with stage.caller(role) as caller:
        answers = [caller.flight("ListFlights", text(1, prefix)) for prefix in prefixes]
        answers += [caller.http("GET", "/dataframes?prefix=" + quote(prefix, safe="")) for prefix in prefixes]
        for catalog in (None, "", "pandas_db", TENANT):
            for pattern in (None, "%", "matrix", "m%", f"{TENANT}%"):
                for command in (
                    fs.db_schemas(catalog, pattern),
                    fs.tables(catalog, pattern, "%", (), True),
                    fs.tables(catalog, "%", "secret%", ("TABLE", "BASE TABLE", "VIEW"), True),
                ):
                    answers.append(attempt(caller.fetch, command))
        for answer in answers:
            assert answer.code in ("OK", *REFUSED)
            told = answer.told.replace(NAME.encode(), b"")
            assert b"secret_zq" not in told and [word for word in words if word in told] == [], told[:300]
        assert any(b"mine" in answer.told for answer in answers)


# Keys


def test_an_idempotency_key_of_another_tenant_is_no_key_of_the_caller_s(stage, before):
    with callers.client_of(stage.server.flight, stage.headers["foreign"]) as client:
        try:
            done = load(client, FRAME, NAME, external_key=KEY, idempotency_key=IDEMPOTENCY_KEY)
            assert done["version"] == 1 and not done.get("duplicate")
            # With other rows, which the owner's key would refuse.
            done = load(client, FRAME.slice(0, 0), NAME, idempotency_key=IDEMPOTENCY_KEY + "2")
            assert done["version"] == 2
        finally:
            with stage.caller("foreign") as caller:
                assert caller.ours("delete_dataframe", NAME).code == "OK"
    assert stage.state() == before


@pytest.mark.parametrize("role", ["stranger", "reader_by_role", "reader_by_rule"])
def test_an_idempotency_key_answers_nobody_who_may_not_write(stage, before, role):
    words = [word for word in stage.hidden() if word not in (KEY.encode(), IDEMPOTENCY_KEY.encode())]
    command = {"dataframe_name": NAME, "external_key": KEY, "idempotency_key": IDEMPOTENCY_KEY}
    with stage.caller(role) as caller:
        answers = [
            caller.flight("DoPut", *rows_after(wire.command_descriptor(wire.load_dataframe(command | more))))
            for more in ({}, {"keep_last": True}, {"external_key": "other"})
        ]
    # The same words whether the key fits, contradicts, or is not there.
    assert {answer.code for answer in answers} == {"PERMISSION_DENIED"}
    assert len({answer.told for answer in answers}) == 1
    assert [word for word in words if word in answers[0].told] == []
    assert stage.state() == before


# Tenants and rules whose names are alike

ALIKE = [
    "acme",
    "acm",
    "ACME",
    "acme/x",
    "acme!2Fx",
    "acme%2Fx",
    "acme\\x",
    "acme x",
    " acme",
    "acme ",
    "acm\u00e9",
    "acme\u0301",
    ".",
    "..",
    "../acme",
    "!!acme",
    "default",
    "{tenant}",
    "local",
    "t" * 200,
    "t" * 201,
    "t" * 255,
    "/" * 70,
    "/" * 71,
]


def test_tenants_whose_names_are_alike_share_nothing(tmp_path):
    users = tmp_path / "users.toml"
    for number, tenant in enumerate(ALIKE):
        callers.add_user(users, f"user{number}", rights_stage.PASSWORD, "--tenant", tenant)
    names = ["x/y", "x", "acme/x/y"]
    for server in conftest.serve(tmp_path, auth="users", users_file=users):
        clients = [callers.basic(f"user{number}", rights_stage.PASSWORD) for number in range(len(ALIKE))]
        for number, header in enumerate(clients):
            with callers.client_of(server.flight, header) as client:
                assert list_names(client) == []
                for name in names:
                    assert load(client, pa.table({"x": [number]}), name, idempotency_key="once")["version"] == 1
        for number, header in enumerate(clients):
            with callers.client_of(server.flight, header) as client:
                assert list_names(client) == sorted(names)
                for name in names:
                    assert get(client, name)["x"].to_pylist() == [number], ALIKE[number]
        with callers.client_of(server.flight, clients[0]) as client, Caller(server, clients[0]) as caller:
            for name in names:
                assert caller.ours("delete_dataframe", name).code == "OK"
            assert list_names(client) == []
        for number, header in list(enumerate(clients))[1:]:
            with callers.client_of(server.flight, header) as client:
                assert get(client, "x/y")["x"].to_pylist() == [number]


def test_a_rule_is_about_whole_segments_in_one_form_of_writing(start_server, tmp_path):
    users, rules = tmp_path / "users.toml", tmp_path / "policy.toml"
    callers.add_user(users, "root", rights_stage.PASSWORD)
    callers.add_user(users, "ann", rights_stage.PASSWORD)
    rules.write_text(
        '[[rule]]\nprincipal = "root"\nprefix = "*"\nallow = "admin"\n'
        '[[rule]]\nprincipal = "ann"\nprefix = "caf\u00e9/menu"\nallow = "admin"\n',
        encoding="utf-8",
    )
    within = ["caf\u00e9/menu", "caf\u00e9/menu/a"]
    without = [
        "caf\u00e9",
        "caf\u00e9/menu2",
        "caf\u00e9/Menu",
        "cafe/menu",
        "caf\u00e9/men",
        "menu",
        "a/caf\u00e9/menu",
    ]
    server = start_server(auth="users", users_file=users, policy=rules)
    root, ann = (callers.basic(name, rights_stage.PASSWORD) for name in ("root", "ann"))
    with callers.client_of(server.flight, root) as client:
        for name in (*within, *without):
            load(client, FRAME, name)
    with callers.client_of(server.flight, ann) as client:
        assert list_names(client) == sorted(within, key=str.encode)
        # The same name with the accent as a mark of its own.
        assert get(client, "cafe\u0301/menu").num_rows == 1
        load(client, FRAME, "cafe\u0301/menu/new")
        for name in without:
            with refused("NOT_FOUND"):
                get(client, name)
            with refused("PERMISSION_DENIED"):
                load(client, FRAME, name)
