"""A server with a caller of each kind, and the dataset of one tenant that all of them are after."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import callers
import conftest
import pyarrow as pa
import pytest
import wire
from frames import get, list_names, load
from rights import ABSENT, COLUMN, IDEMPOTENCY_KEY, KEY, NAME, NEIGHBOUR, ROLES, VALUE, Caller

PASSWORD = "correct horse battery"
# Who may do everything, but elsewhere: where, and how they may be refused.
OUTSIDERS, OWN = ("foreign", "stranger"), f"{NEIGHBOUR}/mine"
REFUSED = ("INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED")
FRAME = pa.table({COLUMN: pa.array([VALUE], pa.int64())})


def write_users(file: Path) -> None:
    """Write the users file, as an operator does."""
    for role in ROLES.values():
        if role.role:
            callers.add_user(file, role.name, PASSWORD, "--tenant", role.tenant, "--role", role.role)


def write_rules(file: Path) -> None:
    """Write the policy."""
    prefix = NAME.split("/")[0]
    rules = [
        f'[[rule]]\nprincipal = "{role.name}"\nprefix = "{prefix}"\nallow = "{role.rule}"\n'
        for role in ROLES.values()
        if role.rule
    ]
    # Who may do nothing here may do everything next door.
    neighbours = [
        f'[[rule]]\nprincipal = "{name}"\nprefix = "{NEIGHBOUR}"\nallow = "admin"\n' for name in ("stranger", "foreign")
    ]
    file.write_text("".join(rules + neighbours))


def log_in(server: conftest.Server) -> dict[str, str | None]:
    """Return the authorization header of each role: of those in the users file, the token they logged in for."""
    found: dict[str, str | None] = {"no_token": None}
    for name, role in ROLES.items():
        if role.role:
            with callers.raw_of(server.flight, callers.basic(name, PASSWORD)) as raw:
                found[name] = callers.handshake(raw)[0]
    signature = found["admin"][-8:]
    found["bad_token"] = found["admin"][:-8] + signature[::-1].swapcase()
    return found


class Stage:
    """The dataset that calls are about, as its owner sees and makes it.

    Attributes
    ----------
    headers : dict
        The authorization header of each role.
    owner : Caller
    """

    def __init__(self, server: conftest.Server):
        self.server, self.headers = server, log_in(server)
        self.owner = Caller(server, self.headers["admin"])

    def caller(self, role: str) -> Caller:
        """Return a caller of a kind."""
        return Caller(self.server, self.headers[role])

    def set(self) -> dict:
        """Make the dataset as it is before each call, and tell its state."""
        with callers.client_of(self.server.flight, self.headers["admin"]) as client:
            if NAME in list_names(client):
                self.owner.ours("delete_dataframe", NAME)
            load(client, FRAME, NAME, external_key=KEY, idempotency_key=IDEMPOTENCY_KEY)
        return self.state()

    def state(self) -> dict:
        """Return all that a caller could change."""
        return {
            "names": self.owner.flight("ListFlights", b"").told.count(b"matrix"),
            "described": self.owner.ours("describe_dataframe", NAME).parts,
            "versions": self.owner.ours("list_versions", NAME, include_replaced=True).parts,
            "absent": self.owner.ours("describe_dataframe", ABSENT).code,
        }

    def give_outsiders_their_own(self) -> None:
        """Load a dataset for each of those who have no right on the other."""
        for role in OUTSIDERS:
            with callers.client_of(self.server.flight, self.headers[role]) as client:
                load(client, pa.table({"x": [1]}), OWN)

    def rows(self) -> int:
        """Return how many rows there are."""
        with callers.client_of(self.server.flight, self.headers["admin"]) as client:
            return get(client, NAME).num_rows

    def location(self) -> str:
        """Return where the dataset lies."""
        (part,) = self.owner.ours("describe_dataframe", NAME).parts
        return json.loads(dict(wire.fields(part))[1])["location"]

    def hidden(self) -> list[bytes]:
        """Return what only those may be told who may read the dataset."""
        location = self.location()
        folder = location.rstrip("/").rsplit("/", 1)[1]
        words = [COLUMN, KEY, IDEMPOTENCY_KEY, folder, str(VALUE), location]
        return [word.encode() for word in words] + [VALUE.to_bytes(8, "little")]


@contextmanager
def set_up(home: Path) -> Iterator[Stage]:
    """Run a server with a user of each kind."""
    write_users(home / "users.toml")
    write_rules(home / "policy.toml")
    settings = {"auth": "users", "users_file": home / "users.toml", "policy": home / "policy.toml"}
    for server in conftest.serve(home, **settings):
        stage = Stage(server)
        with stage.owner:
            yield stage


def fixtures() -> tuple[Callable, Callable]:
    """Return the fixtures ``stage`` and ``before`` of a module in which outsiders try to get at the dataset."""

    @pytest.fixture(scope="module")
    def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
        """A server with a user of each kind; who has no right on the dataset has one next door."""
        with set_up(tmp_path_factory.mktemp("rights")) as stage:
            stage.give_outsiders_their_own()
            yield stage

    @pytest.fixture
    def before(stage: Stage) -> dict:
        """Make the dataset, and return its state."""
        return stage.set()

    return stage, before
