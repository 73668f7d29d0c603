"""`--auth users`: who is let in, by password and by token; what others see of a tenant; and `pandas-db user`."""

from __future__ import annotations

import json
import stat
import subprocess

import adbc_driver_flightsql.dbapi as adbc
import adbc_driver_manager
import callers
import conftest
import flight_sql as fs
import grpc
import pyarrow.flight as flight
import pytest
from adbc_driver_flightsql import DatabaseOptions
from callers import add_user, basic, bearer, client_of, code_of, flight_calls, handshake, http, raw_of, user
from frames import FLIGHT_ERRORS, assert_absent, get, list_names, load, refused, sql
from test_serve import assert_refuses_to_start

pytestmark = pytest.mark.any_backend("it is about who is let in")

ANN = ("ann", "correct horse battery")
BOB = ("bob", "staple: correct horse")
EVE = ("eve", "Pässwörter zählen")


@pytest.fixture
def users_file(tmp_path):
    """A users file: ann and eve of the tenant acme, bob of the tenant acm."""
    file = tmp_path / "users.toml"
    add_user(file, *ANN, "--tenant", "acme", "--group", "analysts")
    add_user(file, *BOB, "--tenant", "acm")
    add_user(file, *EVE, "--tenant", "acme")
    return file


@pytest.fixture
def users_server(start_server, users_file):
    """A server that knows these users."""
    return start_server(auth="users", users_file=users_file)


def token_of(server, user: tuple[str, str]) -> str:
    """Log in, and return the token that the server answers with."""
    with server.connect() as client:
        header, token = client.authenticate_basic_token(*user)
        assert header == b"authorization"
        return token.decode().removeprefix("Bearer ")


BAD = {
    "none": None,
    "empty": "",
    "scheme": "Digest x",
    "made up": bearer("abc"),
    "of flightsql-dbapi": bearer("None"),
    "local": bearer("local"),
    "prefix": bearer("pandas_db_abc"),
    "unknown user": basic("mallory", ANN[1]),
    "wrong password": basic(ANN[0], BOB[1]),
    "empty password": basic(ANN[0], ""),
    "hash as password": basic(ANN[0], "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"),
    "user in capitals": basic("ANN", ANN[1]),
    "not base64": "Basic %%%",
    "no colon": "Basic YW5u",
    "too long": bearer("x" * 9_000),
}


@pytest.mark.parametrize("which", BAD)
def test_every_call_wants_credentials_that_are_good(users_server, which):
    with client_of(users_server.flight, basic(*ANN)) as ann:
        load(ann, callers.FRAME, "data")
    with raw_of(users_server.flight, BAD[which]) as raw:
        for name, call in flight_calls("data").items():
            code = code_of(call, raw)
            # The user's failures add up: at some point each try must wait.
            assert code in ("UNAUTHENTICATED", "RESOURCE_EXHAUSTED"), f"{name}: {code}"
        assert code_of(handshake, raw) in ("UNAUTHENTICATED", "RESOURCE_EXHAUSTED")
    for method, path, body in callers.http_calls("data"):
        status, answer = http(users_server, method, path, BAD[which], body)
        assert status in (401, 429), f"{method} {path}: {status} {answer}"
        assert set(json.loads(answer)) == {"error"}


def test_every_call_takes_a_good_token(users_server):
    token = token_of(users_server, ANN)
    with client_of(users_server.flight, bearer(token)) as ann:
        load(ann, callers.FRAME, "data")
    with raw_of(users_server.flight, bearer(token)) as raw:
        for name, call in flight_calls("data").items():
            assert code_of(call, raw) not in ("UNAUTHENTICATED", "PERMISSION_DENIED"), name
    for method, path, body in callers.http_calls("rest"):
        status, answer = http(users_server, method, path, bearer(token), body)
        if path == "/dataframes/upload":
            assert status == 200, answer
        assert status not in (401, 403), f"{method} {path}: {answer}"


def test_health_needs_no_credentials(users_server):
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        assert users_server.fetch(path)[0] == 200, path


@pytest.mark.parametrize("caller", [ANN, BOB, EVE], ids=lambda caller: caller[0])
def test_passwords_are_taken_in_the_header_of_any_call_and_in_a_handshake(users_server, caller):
    for header in (basic(*caller), bearer(token_of(users_server, caller)), basic("token", token_of(users_server, caller))):
        with client_of(users_server.flight, header) as client:
            load(client, callers.FRAME, f"of/{caller[0]}", keep_last=True)
            assert get(client, f"of/{caller[0]}").num_rows == 1
        status, answer = http(users_server, "GET", f"/dataframes/of/{caller[0]}", header)
        assert (status, json.loads(answer)) == (200, [{"x": 1}])


def test_a_handshake_with_a_token_answers_with_a_token(users_server):
    token = token_of(users_server, ANN)
    with raw_of(users_server.flight, bearer(token)) as raw:
        header, payload = handshake(raw)
    assert header == f"Bearer {payload.decode()}"
    with client_of(users_server.flight, header) as client:
        assert list_names(client) == []


class OldHandler(flight.ClientAuthHandler):
    """Log-in as clients of Arrow did at first: a message in the handshake, and a header of its own."""

    def __init__(self, user: str, password: str):
        super().__init__()
        self.basic, self.token = flight.BasicAuth(user, password), None

    def authenticate(self, outgoing, incoming):
        outgoing.write(self.basic.serialize())
        self.token = incoming.read()

    def get_token(self):
        return self.token


def test_the_oldest_log_in_of_arrow_works(users_server):
    with users_server.connect() as client:
        client.authenticate(OldHandler(*ANN))
        load(client, callers.FRAME, "old")
        assert get(client, "old").num_rows == 1
    with users_server.connect() as client, pytest.raises(FLIGHT_ERRORS):
        client.authenticate(OldHandler(ANN[0], "wrong password"))


def test_adbc_logs_in_with_a_password_and_with_a_token(users_server):
    with client_of(users_server.flight, basic(*ANN)) as client:
        load(client, callers.FRAME, "data")
    ways = [
        {"username": ANN[0], "password": ANN[1]},
        {"username": "token", "password": token_of(users_server, ANN)},
        {DatabaseOptions.AUTHORIZATION_HEADER.value: bearer(token_of(users_server, ANN))},
    ]
    for way in ways:
        with adbc.connect(users_server.flight, db_kwargs=way) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT x FROM data")
            assert cursor.fetchall() == [(1,)]
    with pytest.raises(adbc_driver_manager.Error, match="UNAUTHENTICATED"):
        with adbc.connect(users_server.flight, db_kwargs=ways[0] | {"password": "wrong password"}) as connection:
            connection.cursor().execute("SELECT x FROM data")


def test_the_command_line_takes_its_token_from_the_environment(users_server):
    def ls(**env: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [conftest.binary(), "ls", "--server", users_server.flight],
            env=conftest.clean_environment(**env),
            capture_output=True,
            text=True,
            timeout=conftest.PATIENCE,
        )

    with client_of(users_server.flight, basic(*ANN)) as client:
        load(client, callers.FRAME, "seen")
    ended = ls(PANDAS_DB_TOKEN=token_of(users_server, ANN))
    assert ended.returncode == 0 and "seen" in ended.stdout, ended
    ended = ls()
    assert ended.returncode == 1 and "[UNAUTHENTICATED]" in ended.stderr, ended


def test_a_tenant_sees_nothing_of_another(users_server):
    with client_of(users_server.flight, basic(*ANN)) as ann, client_of(users_server.flight, basic(*BOB)) as bob:
        load(ann, callers.FRAME, "shared/name")
        load(ann, callers.FRAME, "ann_only")
        info = ann.get_flight_info(flight.FlightDescriptor.for_path("ann_only"))
        sql_info = ann.get_flight_info(flight.FlightDescriptor.for_command(fs.statement("SELECT * FROM ann_only")))
        assert_absent(bob, "ann_only")
        assert list_names(bob) == []
        load(bob, callers.FRAME.slice(0, 0), "shared/name")
        assert (get(ann, "shared/name").num_rows, get(bob, "shared/name").num_rows) == (1, 0)
        # Neither words nor listings tell that there is something.
        for query in ("SELECT * FROM ann_only", "SELECT * FROM acme.ann_only", "SELECT * FROM pandas_db.public.ann_only"):
            with refused("NOT_FOUND", "INVALID_ARGUMENT"):
                sql(bob, query)
        tables = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema <> 'information_schema'"
        assert sql(bob, tables).to_pylist() == [{"table_schema": "shared", "table_name": "name"}]
        for ticket in [*info.endpoints, *sql_info.endpoints]:
            with refused("INVALID_ARGUMENT", "NOT_FOUND"):
                bob.do_get(ticket.ticket).read_all()
        bobs = basic(*BOB)
        with raw_of(users_server.flight, basic(*ANN)) as raw, raw_of(users_server.flight, bobs) as other:
            handle = raw.prepare("SELECT * FROM ann_only").handle
            with refused("INVALID_ARGUMENT", "NOT_FOUND"):
                other.query_info(fs.prepared_query(handle))
            for action in ("list_versions", "describe_dataframe", "delete_dataframe", "compact", "vacuum"):
                with refused("NOT_FOUND"):
                    other.action(action, json.dumps({"dataframe_name": "ann_only"}).encode())
            described = fs.fetch(bob, fs.tables())
            assert described.column("table_name").to_pylist() == ["name"]
        assert http(users_server, "GET", "/dataframes/ann_only", bobs)[0] == 404
        assert http(users_server, "DELETE", "/dataframes/ann_only", bobs)[0] == 404
        listed = json.loads(http(users_server, "GET", "/dataframes", bobs)[1])["dataframes"]
        assert [(each["name"], each["rows"]) for each in listed] == [("shared/name", 0)]
        assert get(ann, "ann_only").num_rows == 1
    # A colleague sees the same, but a ticket is its caller's alone.
    with client_of(users_server.flight, basic(*EVE)) as eve:
        assert list_names(eve) == ["ann_only", "shared/name"]
        with refused("INVALID_ARGUMENT"):
            eve.do_get(info.endpoints[0].ticket).read_all()


def test_versions_name_their_maker(users_server):
    with client_of(users_server.flight, basic(*EVE)) as eve:
        load(eve, callers.FRAME, "data")
        assert sql(eve, 'SELECT created_by FROM "data$versions"').to_pylist() == [{"created_by": "eve"}]


def test_changes_of_the_file_count_while_the_server_runs(users_server, users_file):
    token = token_of(users_server, ANN)
    with client_of(users_server.flight, bearer(token)) as by_token:
        assert list_names(by_token) == []
        add_user(users_file, ANN[0], "another password", "--tenant", "acme")
        with refused("UNAUTHENTICATED"):
            list_names(by_token)
    for header, is_good in ((basic(*ANN), False), (basic(ANN[0], "another password"), True)):
        with client_of(users_server.flight, header) as client:
            if is_good:
                assert list_names(client) == []
            else:
                with refused("UNAUTHENTICATED"):
                    list_names(client)
    assert user("remove", "ann", "--users-file", str(users_file)).returncode == 0
    with client_of(users_server.flight, basic(ANN[0], "another password")) as client, refused("UNAUTHENTICATED"):
        list_names(client)
    add_user(users_file, "new", "a new password")
    with client_of(users_server.flight, basic("new", "a new password")) as client:
        assert list_names(client) == []


def test_a_file_that_is_damaged_leaves_the_users_that_were_known(users_server, users_file):
    users_file.write_text("[[user]]\nname = ")
    with client_of(users_server.flight, basic(*ANN)) as client:
        assert list_names(client) == []


def test_whoever_guesses_must_wait(users_server):
    codes = []
    for attempt in range(7):
        with raw_of(users_server.flight, basic(ANN[0], f"guess number {attempt}")) as raw:
            codes.append(code_of(lambda raw: raw.actions(), raw))
    assert codes[:5] == ["UNAUTHENTICATED"] * 5
    assert codes[-1] == "RESOURCE_EXHAUSTED"


def test_tokens_are_not_tickets_and_tickets_are_no_tokens(users_server):
    with client_of(users_server.flight, basic(*ANN)) as ann:
        load(ann, callers.FRAME, "data")
        ticket = ann.get_flight_info(flight.FlightDescriptor.for_path("data")).endpoints[0].ticket.ticket.decode()
        token = token_of(users_server, ANN)
        for no_ticket in (token, token.removeprefix("pandas_db_")):
            with refused("INVALID_ARGUMENT"):
                ann.do_get(flight.Ticket(no_ticket)).read_all()
    for no_token in (ticket, f"pandas_db_{ticket}"):
        with raw_of(users_server.flight, bearer(no_token)) as raw:
            assert code_of(lambda raw: raw.actions(), raw) == "UNAUTHENTICATED"


def test_another_server_with_the_same_key_takes_a_token_and_one_with_another_does_not(
    start_server, users_file, tmp_path
):
    def start(place: str, key: str):
        return start_server(auth="users", users_file=users_file, storage=tmp_path / place, handle_key=key * 32)

    one, two, other = start("one", "k"), start("two", "k"), start("other", "l")
    token = token_of(one, ANN)
    for server, code in ((one, "OK"), (two, "OK"), (other, "UNAUTHENTICATED")):
        with raw_of(server.flight, bearer(token)) as raw:
            assert code_of(lambda raw: raw.actions(), raw) == code


@pytest.mark.parametrize("headers", [2, 3])
def test_several_authorization_headers_are_refused(users_server, headers):
    raw = fs.RawSql(users_server.flight, headers=[("authorization", basic(*ANN))] * headers)
    with raw:
        # gRPC libraries may join them by a comma, which is no credentials either.
        assert code_of(lambda raw: raw.actions(), raw) == "UNAUTHENTICATED"


def test_no_secret_is_in_the_log(users_server, users_file):
    token = token_of(users_server, ANN)
    for header in (basic(*ANN), bearer(token), basic(ANN[0], "my secret guess"), bearer("pandas_db_made_up")):
        with raw_of(users_server.flight, header) as raw:
            code_of(lambda raw: raw.actions(), raw)
    users_server.stop()
    log = users_server.errors()
    for secret in (ANN[1], token, "my secret guess", "pandas_db_made_up", "argon2id"):
        assert secret not in log


# The command


def test_users_are_added_listed_and_removed(tmp_path):
    file = tmp_path / "users.toml"
    add_user(file, "ann", "correct horse", "--tenant", "acme", "--role", "reader", "--group", "a", "--group", "b")
    add_user(file, "bob", "correct horse")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "correct horse" not in file.read_text()
    listed = user("list", "--users-file", str(file))
    assert listed.stdout == "ann\tacme\treader\ta,b\nbob\tdefault\tadmin\t\n"
    assert user("remove", "ann", "--users-file", str(file)).returncode == 0
    assert user("list", "--users-file", str(file)).stdout == "bob\tdefault\tadmin\t\n"
    ended = user("remove", "ann", "--users-file", str(file))
    assert ended.returncode == 1 and "ann" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "password", "mentions"),
    [
        (["ann"], "short", "8 characters"),
        (["ann"], "", "8 characters"),
        (["token"], "long enough", "token"),
        (["a:b"], "long enough", "':'"),
        (["ann", "--tenant", ""], "long enough", "tenant"),
        (["ann", "--group", ""], "long enough", "group"),
    ],
)
def test_what_cannot_be_a_user_is_refused(tmp_path, arguments, password, mentions):
    file = tmp_path / "users.toml"
    ended = user("add", *arguments, "--users-file", str(file), password=password)
    assert ended.returncode == 1 and mentions in ended.stderr, ended
    assert len(ended.stderr.splitlines()) == 1
    assert not file.exists()


def test_a_password_is_no_argument(tmp_path):
    ended = user("add", "ann", "secret-word", "--users-file", str(tmp_path / "u"), password="long enough")
    assert ended.returncode == 2


# Settings


def test_a_start_that_would_be_open_or_blind_is_refused(tmp_path):
    file = tmp_path / "users.toml"
    add_user(file, "ann", "correct horse")
    listen = ["--listen", "127.0.0.1:0"]
    assert_refuses_to_start([*listen, "--auth", "users"], tmp_path, "--users-file")
    assert_refuses_to_start([*listen, "--users-file", str(file)], tmp_path, "--users-file", "--auth users")
    missing = ["--auth", "users", "--users-file", str(tmp_path / "missing")]
    assert_refuses_to_start([*listen, *missing], tmp_path, "--users-file", "missing")
    bad = tmp_path / "bad.toml"
    bad.write_text("[[user]]\nname = 'ann'\nhash = 'secret'\n")
    ended = ["--auth", "users", "--users-file", str(bad)]
    assert_refuses_to_start([*listen, *ended], tmp_path, "--users-file", "tenant")
    assert_refuses_to_start([*listen, "--auth", "basic"], tmp_path, "--auth")
    assert_refuses_to_start(["--listen", "0.0.0.0:0"], tmp_path, "--insecure")


def test_a_server_with_users_may_be_open_to_the_network(start_server, users_file):
    server = start_server(auth="users", users_file=users_file, listen="0.0.0.0:0", http="off")
    port = server.flight.rsplit(":", 1)[1]
    with raw_of(f"grpc://127.0.0.1:{port}", None) as raw, pytest.raises(grpc.RpcError) as caught:
        raw.actions()
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert "plain" in server.errors()
