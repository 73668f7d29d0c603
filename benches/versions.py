"""Tell what many versions cost: planning a read of the newest one, and committing another.

Two datasets get one small load after the other, one of them few and the other many. Then both are measured in turns:
``GetFlightInfo`` of the newest version, the plan of a statement on ``dataset@last``, and a load of one row.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as flight
from served import Server, serve

WRITERS = 8
ROW = pa.table({"x": [1]})


def load_row(server: Server, name: str) -> None:
    """Load one row."""
    server.load(name, ROW.schema, ROW.to_batches(), 1, {})


def fill(server: Server, name: str, versions: int) -> None:
    """Make versions, several at a time."""
    with ThreadPoolExecutor(WRITERS) as pool:
        for _ in pool.map(lambda _: load_row(server, name), range(versions)):
            pass


def plan_info(server: Server, name: str) -> None:
    """Plan the read of the newest version."""
    command = json.dumps({"dataframe_name": name, "use_last": True}).encode()
    assert server.client.get_flight_info(flight.FlightDescriptor.for_command(command)).total_records == 1


def plan_sql(server: Server, name: str) -> None:
    """Plan a statement on the newest version."""
    schema, table = name.split("/")
    command = json.dumps({"sql": f'select x from {schema}."{table}@last"'})
    server.client.get_flight_info(flight.FlightDescriptor.for_command(command.encode()))


STEPS: dict[str, Callable[[Server, str], None]] = {"info": plan_info, "sql": plan_sql, "commit": load_row}


def measure(server: Server, names: tuple[str, str], step: str, repeat: int) -> tuple[float, float]:
    """Return the median seconds of a step on each dataset, measured in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeat):
        for name, seconds in zip(names, times):
            start = time.perf_counter()
            STEPS[step](server, name)
            seconds.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> int:
    """Run the bench and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="the pandas-db binary")
    parser.add_argument("--few", type=int, default=10)
    parser.add_argument("--many", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=200, help="measurements of each step, of which the median counts")
    parser.add_argument("--max-plan-ratio", type=float, help="exit 1 when many / few is higher")
    parser.add_argument("--max-commit-ratio", type=float, help="exit 1 when many / few is higher")
    options = parser.parse_args()
    limits = {"info": options.max_plan_ratio, "sql": options.max_plan_ratio, "commit": options.max_commit_ratio}
    exceeded = []
    names = ("bench/few", "bench/many")
    with (
        tempfile.TemporaryDirectory(prefix="pandas-db-bench-") as home,
        serve(options.bin, Path(home, "data")) as server,
    ):
        fill(server, names[0], options.few)
        fill(server, names[1], options.many)
        print(f"{options.few} and {options.many} versions, median of {options.repeat}; milliseconds")
        print(f"{'step':<8}{'few':>9}{'many':>9}{'ratio':>8}")
        for step, limit in limits.items():
            few, many = measure(server, names, step, options.repeat)
            print(f"{step:<8}{few * 1e3:>9.3f}{many * 1e3:>9.3f}{many / few:>8.3f}", flush=True)
            if limit is not None and many / few > limit:
                exceeded.append(f"{step}: {many / few:.3f} is over {limit}")
    print("\n".join(exceeded), end="\n" if exceeded else "")
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
