"""Keys of S3 as paths, and the backends of stand-ins for AWS."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import backends
import obstore
import stand_ins
from backends import Backend, Place
from obstore.store import S3Store

STORAGE, VERSIONS = "--storage", "--versions"


@dataclass(frozen=True)
class Size:
    """What ``stat`` tells of an object."""

    st_size: int


def store_of(cloud: stand_ins.Cloud, bucket: str = stand_ins.BUCKET) -> S3Store:
    """Return a bucket as the tests look into it, who may do everything."""
    return S3Store(
        bucket,
        endpoint=cloud.s3,
        region=stand_ins.REGION,
        access_key_id=cloud.administrator.id,
        secret_access_key=cloud.administrator.secret,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


def _store() -> S3Store:
    backend = backends.chosen()
    assert isinstance(backend, S3Backend)
    return backend.store


class ObjectPath(PurePosixPath):
    """A key of S3 as ``/bucket/key``, with the methods of ``Path`` that the tests use."""

    @property
    def key(self) -> str:
        """The key in its bucket."""
        bucket = f"/{stand_ins.BUCKET}"
        assert str(self).startswith(bucket), f"{self} is in another bucket"
        return str(self)[len(bucket) + 1 :]

    def resolve(self) -> ObjectPath:
        """Return the path itself: there are no links."""
        return self

    def _below(self) -> Iterator[ObjectPath]:
        for batch in obstore.list(_store(), prefix=self.key):
            yield from (type(self)(f"/{stand_ins.BUCKET}/{entry['path']}") for entry in batch)

    def stat(self) -> Size:
        """Return the size of the object."""
        return Size(obstore.head(_store(), self.key)["size"])

    def is_file(self) -> bool:
        """Tell whether there is an object of this key."""
        try:
            obstore.head(_store(), self.key)
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Tell whether there are objects below."""
        return next(self._below(), None) is not None

    def exists(self) -> bool:
        """Tell whether there is an object here or below."""
        return self.is_file() or self.is_dir()

    def iterdir(self) -> Iterator[ObjectPath]:
        """Yield what is right below, in order."""
        depth = len(self.parts) + 1
        yield from sorted({type(self)(*path.parts[:depth]) for path in self._below()})

    def rglob(self, pattern: str) -> Iterator[ObjectPath]:
        """Yield objects, and the folders that they seem to be in, whose last part is like the pattern."""
        found: set[ObjectPath] = set()
        for path in self._below():
            found |= {path, *(parent for parent in path.parents if len(parent.parts) > len(self.parts))}
        yield from sorted(path for path in found if fnmatch.fnmatchcase(path.name, pattern))

    def read_bytes(self) -> bytes:
        """Return what the object holds."""
        return bytes(obstore.get(_store(), self.key).bytes())

    def read_text(self) -> str:
        """Return the text that the object holds."""
        return self.read_bytes().decode()

    def write_bytes(self, content: bytes) -> None:
        """Put the object in the place of what is there."""
        obstore.put(_store(), self.key, content)

    def write_text(self, content: str) -> None:
        """Put the object in the place of what is there."""
        self.write_bytes(content.encode())

    def unlink(self) -> None:
        """Delete the object."""
        assert self.is_file(), f"there is no {self}"
        obstore.delete(_store(), self.key)


class S3Backend(Backend):
    """S3, and version records in a file."""

    scheme = "s3"

    def __init__(self, cloud: stand_ins.Cloud):
        self.cloud, self.store = cloud, store_of(cloud)
        # The first object makes the bucket, should the stand-in not have made it yet.
        obstore.put(self.store, "begun", b"")

    @classmethod
    @contextmanager
    def running(cls, home: Path) -> Iterator[S3Backend]:
        """Run what it needs until the end of the block; ``home`` is a folder for that."""
        with stand_ins.running(home) as cloud:
            yield cls(cloud)

    def arguments(self, words: list[str], cwd: Path | None) -> list[str]:
        """Replace the folder of a server by a prefix, and add where its version records are."""
        if words[:1] != ["serve"] or STORAGE not in words:
            return words
        at = words.index(STORAGE) + 1
        if "://" in words[at]:
            return words
        folder = (cwd or Path()).absolute() / words[at]
        storage = backends.uri(self.place(folder))
        words = [*words[:at], storage, *words[at + 1 :]]
        return words if VERSIONS in words else [*words, VERSIONS, self.versions(folder, storage)]

    def versions(self, folder: Path, storage: str) -> str:
        """Return where the version records are of what is in the place of a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        return f"embedded:{folder / 'versions.db'}"

    def environment(self) -> dict[str, str]:
        """Return what leads to the stand-ins, with the rights of a node."""
        return self.cloud.environment()

    def place(self, folder: Path, cwd: Path | None = None) -> Place:
        """Return the prefix that stands for a folder."""
        return ObjectPath(f"/{stand_ins.BUCKET}/{_only_name((cwd or Path()).absolute() / folder)}")

    def at(self, host: str, path: str) -> Place:
        """Return the place of a location that a server told."""
        assert host == stand_ins.BUCKET
        return ObjectPath(f"/{host}{path}")

    def delta_options(self) -> dict[str, str]:
        """Return what leads delta-rs to the stand-in of S3."""
        return self.cloud.administration() | {"AWS_ENDPOINT_URL": self.cloud.s3, "AWS_ALLOW_HTTP": "true"}


class AwsBackend(S3Backend):
    """S3, and version records in DynamoDB; each storage has a table of its own, since names are looked up there."""

    def __init__(self, cloud: stand_ins.Cloud):
        super().__init__(cloud)
        self._tables: set[str] = set()

    def versions(self, folder: Path, storage: str) -> str:
        """Return the table that stands for a folder, and make it at first."""
        table = _only_name(folder)
        versions = f"dynamodb://{table}"
        if table not in self._tables:
            command = [os.environ["PANDAS_DB_BIN"], "init", STORAGE, storage, VERSIONS, versions]
            # Nodes may not make tables.
            administration = os.environ | self.cloud.administration()
            ended = subprocess.run(command, env=administration, capture_output=True, text=True)
            assert ended.returncode == 0, f"{command}: {ended.stderr}"
            self._tables.add(table)
        return versions


def _only_name(folder: Path) -> str:
    """Return a name for a folder that no other has."""
    words = re.sub(r"[^A-Za-z0-9_-]", "_", folder.parent.name[:40])
    return f"{words}-{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}"
