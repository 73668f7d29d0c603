"""Counts what loads and queries ask of S3 and DynamoDB, and prints it as the table of costs in ``deploy/README.md``.

The servers run already, on S3 and DynamoDB: one that answers most calls, and one that has not read the datasets yet.
Give both a long ``--maintenance-interval``, so that the background is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight

COUNTER = re.compile(r'^pandas_db_(s3|dynamodb)_requests_total\{operation="(\w+)"\} (\d+)$', re.MULTILINE)
# Units of the small items that version records are; a transaction has two of them, and costs twice as much.
WRITE_UNITS = {"PutItem": 1, "UpdateItem": 1, "DeleteItem": 1, "TransactWriteItems": 4}
READ_UNITS = {"GetItem": 1, "Query": 1, "Scan": 1}
# List prices of us-east-1 in US dollars.
PUT_PRICE, GET_PRICE, WRITE_PRICE, READ_PRICE = 0.005 / 1e3, 0.0004 / 1e3, 0.625 / 1e6, 0.125 / 1e6


class Node:
    """A running server.

    Parameters
    ----------
    location : str
        Where Flight is.
    http : str
        Where HTTP is.
    token : str, optional
        A bearer token.
    """

    def __init__(self, location: str, http: str, token: str | None):
        self.client, self.http = flight.connect(location), http
        headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
        self.options = flight.FlightCallOptions(headers=headers)

    def requests(self) -> Counter:
        """Return how often it has asked for each operation."""
        with urllib.request.urlopen(f"{self.http}/metrics", timeout=60) as page:
            return Counter({found[:2]: int(found[2]) for found in COUNTER.findall(page.read().decode())})

    def counted(self, calls: list[Callable[[], object]]) -> Counter:
        """Return what a call asks for, times 1,000, as the mean of some calls."""
        before = self.requests()
        for call in calls:
            call()
        asked = self.requests()
        asked.subtract(before)
        return Counter({operation: count * 1_000 / len(calls) for operation, count in asked.items()})

    def load(self, frame: pa.Table, name: str, keys: dict[str, str]) -> None:
        """Load a frame, and return when it is durable."""
        command = {"dataframe_name": name, "columns_keys": keys, "total_rows": frame.num_rows}
        descriptor = flight.FlightDescriptor.for_command(json.dumps(command).encode())
        writer, answers = self.client.do_put(descriptor, frame.schema, self.options)
        with writer:
            writer.write_table(frame, 65_536)
            writer.done_writing()
            while answers.read() is not None:
                pass

    def query(self, name: str) -> None:
        """Sum a column of a dataset."""
        schema, table = name.split("/")
        ticket = flight.Ticket(json.dumps({"sql": f'SELECT sum(x) FROM "{schema}".{table}'}).encode())
        self.client.do_get(ticket, self.options).read_all()


def frame(rows: int, dates: int) -> pa.Table:
    """Return rows on some dates."""
    days = np.datetime64("2024-01-01") + np.arange(rows) % dates
    return pa.table({"day": days.astype("datetime64[D]"), "x": np.arange(rows)})


def row(title: str, asked: Counter) -> str:
    """Return a row of the table."""
    s3 = {operation: count for (service, operation), count in asked.items() if service == "s3"}
    dynamo = {operation: count for (service, operation), count in asked.items() if service == "dynamodb"}
    puts, conditional = s3.get("Put", 0) + s3.get("Post", 0), s3.get("ConditionalPut", 0)
    lists, gets = s3.get("List", 0), s3.get("Get", 0) + s3.get("Head", 0)
    reads = sum(units * dynamo.get(operation, 0) for operation, units in READ_UNITS.items())
    writes = sum(units * dynamo.get(operation, 0) for operation, units in WRITE_UNITS.items())
    cost = (puts + conditional + lists) * PUT_PRICE + gets * GET_PRICE + reads * READ_PRICE + writes * WRITE_PRICE
    counts = " | ".join(f"{count:,.0f}" for count in (puts, conditional, lists, gets, reads, writes))
    return f"| {title} | {counts} | {cost:.4f} |"


def measure(warm: Node, cold: Node, repeat: int) -> list[str]:
    """Return the rows of the table."""
    schema, small, dated = f"requests-{uuid.uuid4().hex}", frame(100, 1), frame(100_000, 10)
    warm.load(small, f"{schema}/small", {})
    warm.load(dated, f"{schema}/dated", {"day": "Date"})
    wide = [f"{schema}/wide_{number}" for number in range(max(1, repeat // 10))]
    for name in wide:
        warm.load(frame(10_000, 100), name, {"day": "Date"})
    warm.query(wide[0])
    if not warm.requests():
        raise SystemExit("the server has asked nothing of S3 and DynamoDB; start it with --storage s3://…")
    # Before the many loads, whose chunks the background begins to merge.
    queries = [
        ("query of a dataset that the node knows", warm.counted([lambda: warm.query(wide[0])] * repeat)),
        ("first query of a dataset of 100 chunks on a node", cold.counted([lambda n=n: cold.query(n) for n in wide])),
    ]
    load_dated = [lambda: warm.load(dated, f"{schema}/dated", {})] * max(1, repeat // 10)
    loads = [
        ("load of 100 rows without keys", warm.counted([lambda: warm.load(small, f"{schema}/small", {})] * repeat)),
        ("load of 100,000 rows on 10 dates", warm.counted(load_dated)),
    ]
    return [row(title, asked) for title, asked in loads + queries]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True, help="Flight of a node")
    parser.add_argument("--http", required=True, help="HTTP of the same node")
    parser.add_argument("--cold-server", required=True, help="Flight of another node")
    parser.add_argument("--cold-http", required=True, help="HTTP of that node")
    parser.add_argument("--repeat", type=int, default=50)
    words = parser.parse_args()
    token = os.environ.get("PANDAS_DB_TOKEN")
    nodes = Node(words.server, words.http, token), Node(words.cold_server, words.cold_http, token)
    print("\n".join(measure(*nodes, words.repeat)))


if __name__ == "__main__":
    main()
