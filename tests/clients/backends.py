"""Where the servers under test keep their data: a local folder, or S3 and DynamoDB.

The environment variable ``PANDAS_DB_TEST_BACKEND`` chooses:

| value | storage | version records |
|---|---|---|
| ``local``, the default | the folder that the test names | a file in it |
| ``s3`` | a prefix of its own in a bucket of SeaweedFS | a file in the folder that the test names |
| ``aws`` | the same | a table of DynamoDB of its own |

Servers on S3 and DynamoDB have the rights that ``deploy/`` gives to the nodes of a stack, and no more.

A test names a folder either way. ``Backend.arguments`` puts in its place what the server is to use, and
``Backend.place`` gives what to look into: a ``Path``, or an ``ObjectPath``, which has the methods of ``Path`` that the
tests use. A test that is about a local disk and nothing else has the mark ``local_only``, with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from urllib.parse import unquote, urlsplit

VARIABLE = "PANDAS_DB_TEST_BACKEND"
NAMES = ("local", "s3", "aws")
Place = PurePath  # Path, or ObjectPath.


def name() -> str:
    """Return the name of the backend that was chosen."""
    chosen = os.environ.get(VARIABLE) or NAMES[0]
    if chosen not in NAMES:
        raise ValueError(f"{VARIABLE} is {chosen!r}; it can be {', '.join(NAMES)}")
    return chosen


class Backend:
    """Local folders."""

    scheme = "file"

    def arguments(self, words: list[str], cwd: Path | None) -> list[str]:
        """Return the command line of a server, with the places that it is to use."""
        return words

    def environment(self) -> dict[str, str]:
        """Return the environment variables that a server needs."""
        return {}

    def place(self, folder: Path, cwd: Path | None = None) -> Place:
        """Return what a server keeps in the place of a folder."""
        return folder

    def at(self, host: str, path: str) -> Place:
        """Return the place of a location that a server told, by the parts of its URL."""
        assert host == ""
        return Path(path)

    def delta_options(self) -> dict[str, str]:
        """Return the storage options with which other programs read what is there."""
        return {}


_chosen = [Backend()]


def chosen() -> Backend:
    """Return the backend of this run."""
    return _chosen[-1]


@contextmanager
def running(home: Path) -> Iterator[None]:
    """Have the backend that was chosen until the end of the block; ``home`` is a folder for what it needs."""
    if name() == "local":
        yield
        return
    import objects  # What it needs is not wanted for local folders.

    kind = objects.AwsBackend if name() == "aws" else objects.S3Backend
    with kind.running(home) as backend:
        _chosen.append(backend)
        try:
            yield
        finally:
            _chosen.pop()


def at(location: str) -> Place:
    """Return the place of a location that a server told."""
    address = urlsplit(location)
    assert address.scheme == chosen().scheme
    return chosen().at(address.netloc, unquote(address.path))


def named(uri: str) -> Place:
    """Return the place that another program names so: a URL, or the path of a file."""
    return at(uri) if "://" in uri else Path(uri)


def uri(place: Place) -> str:
    """Return how other programs name a place."""
    return str(place) if isinstance(place, Path) else f"{chosen().scheme}:/{place}"
