"""Talking to a server over the REST API of pandas-db's first life."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any, Callable, NoReturn, TypeVar

import pyarrow as pa

from . import convert, labels, records
from .arguments import Load, Selection
from .backend import Backend, Frame
from .errors import (
    AbortedError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PandasDBError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    from_message,
)
from .progress import Progress
from .records import Records
from .retry import Retries, is_worth_a_retry, was_not_done
from .statement import is_write
from .tls import Tls

Result = TypeVar("Result")

ARROW_STREAM = "application/vnd.apache.arrow.stream"

_BY_STATUS = {
    400: InvalidArgumentError,
    401: UnauthenticatedError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: UnimplementedError,
    408: DeadlineExceededError,
    409: AbortedError,
    413: ResourceExhaustedError,
    429: ResourceExhaustedError,
    500: InternalError,
    501: UnimplementedError,
    502: UnavailableError,
    503: UnavailableError,
    504: DeadlineExceededError,
}
_TOO_MANY = 429


class RestBackend(Backend):
    """A server's HTTP port.

    Parameters
    ----------
    url : str
        ``http://host:port``, with a path if the API is below one.
    token, retries, timeout, tls
        As those of :class:`~pandas_db_sdk.flight_backend.FlightBackend`.
    """

    kind = "the REST API"

    def __init__(
        self,
        url: str,
        token: str | None,
        retries: Retries,
        timeout: float | None = None,
        tls: Tls | None = None,
    ) -> None:
        self._url, self._token, self._retries, self._timeout = url.rstrip("/"), token, retries, timeout
        self._tls = (tls or Tls()).of_http()

    def encode(self, frame: Frame) -> Records:
        """Return a frame as records."""
        return records.encode(frame)

    def decode(self, content: Any, form: str) -> Frame:
        """Return records, or the table that an answer to SQL is, as the kind of frame that was asked for."""
        return convert.from_table(content, form) if isinstance(content, pa.Table) else records.decode(content, form)

    def load(self, frame: Records, load: Load, progress: bool | None) -> dict[str, Any]:
        """Load records; every attempt has the same idempotency key, so that they are stored once."""
        body = {
            "dataframe": frame.text,
            "dataframe_name": load.name,
            "columns_keys": load.columns_keys,
            "external_key": load.external_key,
            "keep_last": load.keep_last,
        }
        headers = {"Idempotency-Key": load.idempotency_key}
        with Progress(progress, f"load {load.name}", frame.rows) as bar:
            result = self._again(lambda: self._json("POST", "/dataframes/upload", body, headers))
            bar.add(frame.rows)
        return dict(result)

    def read(self, selection: Selection, progress: bool | None) -> list[dict[str, Any]]:
        """Read records."""
        names = None if selection.columns is None else [labels.arrow_name(label) for label in selection.columns]
        query = selection.command(names)
        del query["dataframe_name"]
        if selection.use_last:
            query["use_last"] = "true"
        with Progress(progress, f"get {selection.name}", None) as bar:
            found = self._again(lambda: self._json("GET", _path(selection.name, query)))
            bar.add(len(found))
        return list(found)

    def list_dataframes(self, prefix: str) -> list[dict[str, Any]]:
        """List the datasets whose names begin with a prefix."""
        path = "/dataframes?" + urllib.parse.urlencode({"prefix": prefix}) if prefix else "/dataframes"
        return list(self._again(lambda: self._json("GET", path))["dataframes"])

    def delete_dataframe(self, name: str) -> None:
        """Delete a dataset."""
        self._again(lambda: self._call("DELETE", _path(name, {})), was_not_done)

    def sql(self, query: str, params: Sequence[Any]) -> pa.Table | int:
        """Run a statement; the rows come as Arrow, and so with their types."""
        if params:
            self._refuse("params=")
        writes = is_write(query)

        def attempt() -> tuple[str, bytes]:
            return self._call("POST", "/sql", {"sql": query}, {"Accept": ARROW_STREAM})

        kind, body = self._again(attempt, was_not_done if writes else is_worth_a_retry)
        table = pa.ipc.open_stream(body).read_all() if kind == ARROW_STREAM else pa.Table.from_pylist(json.loads(body))
        if writes and table.num_rows == 1 and table.column_names == ["count"]:
            return int(table.column(0)[0].as_py())
        return table

    # Calls

    def _again(
        self, call: Callable[[], Result], worth_it: Callable[[PandasDBError], bool] = is_worth_a_retry
    ) -> Result:
        return self._retries.run(call, worth_it)

    def _json(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        _, answer = self._call(method, path, body, headers)
        try:
            return json.loads(answer)
        except ValueError:
            raise InternalError(f"{method} {path}: the answer is no JSON", from_server=False) from None

    def _call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[str, bytes]:
        """Make one call, and return the type and the body of the answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data=data, method=method, headers=headers or {})
        request.add_header("Content-Type", "application/json")
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        options: dict[str, Any] = {"timeout": self._timeout} if self._timeout else {}
        try:
            with urllib.request.urlopen(request, context=self._tls, **options) as answer:
                return answer.headers.get_content_type(), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                _raise_status(error.code, error.read())
        except (OSError, http.client.HTTPException) as error:
            _raise_transport(error)


def _path(name: str, query: dict[str, Any]) -> str:
    path = "/dataframes/" + urllib.parse.quote(name, safe="/")
    return f"{path}?{urllib.parse.urlencode(query, doseq=True)}" if query else path


def _raise_status(status: int, body: bytes) -> NoReturn:
    try:
        message = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        message = body[:1_000].decode("utf-8", "replace").strip() or http.client.responses.get(status, "")
    told = from_message(message)
    if told is None:
        if status == _TOO_MANY:
            message += "; retry later"
        told = _BY_STATUS.get(status, PandasDBError)(message)
    raise told from None


def _raise_transport(error: Exception) -> NoReturn:
    reason = getattr(error, "reason", error)
    if isinstance(reason, (socket.timeout, TimeoutError)):
        raise DeadlineExceededError("the server took longer than the timeout", from_server=False) from None
    refused = isinstance(reason, (ConnectionRefusedError, socket.gaierror))
    words = "failed to connect" if refused else "the connection broke"
    raise UnavailableError(f"{words}: {reason}", from_server=False) from None
