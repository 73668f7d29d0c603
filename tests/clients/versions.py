"""Datasets of many versions: small frames that tell them apart, the Flight actions as verbs, and their names in SQL."""

from __future__ import annotations

import datetime
import json

import backends
import pyarrow as pa
import pyarrow.flight as flight
from backends import Place
from frames import get, load, table_name

ACTIONS = (
    "list_versions",
    "describe_dataframe",
    "delete_version",
    "delete_dataframe",
    "set_retention",
    "compact",
    "vacuum",
)


def frame(*values: int) -> pa.Table:
    """Return a table whose one column tells the loads apart."""
    return pa.table({"x": pa.array(values, pa.int64())})


def values(client: flight.FlightClient, name: str, **fields) -> list[int]:
    """Read that column back; keyword arguments are the fields of GetDataframe."""
    return get(client, name, **fields).column("x").to_pylist()


def act(client: flight.FlightClient, kind: str, name: str, **fields) -> list[dict]:
    """Do an action on a dataset and return its results; fields that are None are left out."""
    body = {"dataframe_name": name} | {key: value for key, value in fields.items() if value is not None}
    results = client.do_action(flight.Action(kind, json.dumps(body).encode()))
    return [json.loads(result.body.to_pybytes()) for result in results]


def act_once(client: flight.FlightClient, kind: str, name: str, **fields) -> dict:
    """Do an action that has exactly one result."""
    (result,) = act(client, kind, name, **fields)
    return result


def list_versions(client: flight.FlightClient, name: str, **fields) -> list[dict]:
    """Return the version records; the fields are external_key and include_replaced."""
    return act(client, "list_versions", name, **fields)


def live_numbers(client: flight.FlightClient, name: str, **fields) -> list[int]:
    """Return the numbers of the live versions."""
    return [record["version"] for record in list_versions(client, name, **fields)]


def states(client: flight.FlightClient, name: str) -> dict[int, str]:
    """Return the state of each version that is not vacuumed."""
    return {record["version"]: record["state"] for record in list_versions(client, name, include_replaced=True)}


def describe(client: flight.FlightClient, name: str) -> dict:
    """Return what describe_dataframe tells."""
    return act_once(client, "describe_dataframe", name)


def delete_version(client: flight.FlightClient, name: str, version: int) -> dict:
    """End one version."""
    return act_once(client, "delete_version", name, version=version)


def delete_dataframe(client: flight.FlightClient, name: str) -> dict:
    """End a dataset."""
    return act_once(client, "delete_dataframe", name)


def set_retention(client: flight.FlightClient, name: str, **fields) -> dict:
    """Set which versions are kept; the fields are keep_versions and keep_seconds."""
    return act_once(client, "set_retention", name, **fields)


def compact(client: flight.FlightClient, name: str) -> dict:
    """Merge small chunks."""
    return act_once(client, "compact", name)


def vacuum(client: flight.FlightClient, name: str) -> dict:
    """Remove what ended longer ago than --vacuum-after."""
    return act_once(client, "vacuum", name)


def root_of(client: flight.FlightClient, name: str) -> Place:
    """Return the folder of a dataset, as describe_dataframe tells it."""
    return backends.at(describe(client, name)["location"])


def named(name: str, suffix: str) -> str:
    """Return the quoted SQL name of a dataset with a suffix such as ``@last`` or ``$chunks``."""
    return table_name(name)[:-1] + suffix.replace('"', '""') + '"'


def instant(result: dict) -> datetime.datetime:
    """Return when a version was committed, from a LoadResult or a version record."""
    return datetime.datetime.fromisoformat(result["created_at"])


def just_before(result: dict) -> str:
    """Return the last instant at which a version was not there yet."""
    return (instant(result) - datetime.timedelta(microseconds=1)).isoformat()


# The external key and keep_last of each version of load_history, and which versions are live after each.
_STEPS = [("a", False), ("b", False), ("a", False), ("a", True), ("b", True), ("a", False)]
KEYS = [key for key, _ in _STEPS]
HISTORY = [[1], [1, 2], [1, 2, 3], [2, 4], [4, 5], [4, 5, 6]]


def load_history(client: flight.FlightClient, name: str) -> list[dict]:
    """Make six versions of two keys, of which three end up replaced, and return their results."""
    return [
        load(client, frame(number, -number), name, external_key=key, keep_last=keep_last)
        for number, (key, keep_last) in enumerate(_STEPS, 1)
    ]


def rows_of(*numbers: int) -> list[int]:
    """Return the rows of some versions of load_history."""
    return [value for number in numbers for value in (number, -number)]
