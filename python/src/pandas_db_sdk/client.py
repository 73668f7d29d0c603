"""The client: frames in, frames out, and SQL."""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Hashable, Iterator, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from . import arguments, convert, decoding
from .arguments import DEFAULT_KEY, Load, Selection
from .backend import Backend, Frame
from .flight_backend import FlightBackend
from .rest_backend import RestBackend
from .retry import Retries
from .tls import Tls

TOKEN_VARIABLE = "PANDAS_DB_TOKEN"
FLIGHT_SCHEMES = ("grpc", "grpc+tcp", "grpc+tls")
REST_SCHEMES = ("http", "https")


class DataFrameClient:
    """A client of a pandas-db server.

    It may be shared by threads. Use it in a ``with`` block, or :meth:`close` it, to give its connection back.

    Parameters
    ----------
    api_url : str
        ``grpc://host:port``, or ``grpc+tls://host:port`` for TLS. ``http://host:port`` and ``https://`` mean the REST
        API, which loads, gets, lists, deletes and runs SQL, and brings only through what JSON can carry.
    auth_token : str, optional
        Sent as ``Authorization: Bearer`` with each call. Without it the environment variable ``PANDAS_DB_TOKEN`` is.
    attempts : int
        The most times that a call is made when the server is away or another writer is first.
    timeout : float, optional
        Seconds that one call may take. Without it the server's own limits hold.
    tls_root_certs : str, path or bytes, optional
        A file of certificates in PEM, or its content, that the server's certificate must lead to.
    tls_client_cert, tls_client_key : str or path, optional
        Files in PEM: the certificate to show a server that wants one of its clients, and its private key.

    Examples
    --------
    >>> client = DataFrameClient(api_url="grpc://127.0.0.1:50051", auth_token=None)
    >>> client.load_dataframe(df, "my-project/dataset1", columns_keys={"date": "Date"})
    >>> client.get_dataframe("my-project/dataset1")
    """

    def __init__(
        self,
        api_url: str,
        auth_token: str | None = None,
        *,
        attempts: int = 8,
        timeout: float | None = None,
        tls_root_certs: str | os.PathLike[str] | bytes | None = None,
        tls_client_cert: str | os.PathLike[str] | None = None,
        tls_client_key: str | os.PathLike[str] | None = None,
    ) -> None:
        self.api_url = arguments.check_text("api_url", api_url)
        token = auth_token if auth_token is not None else os.environ.get(TOKEN_VARIABLE)
        self._backend = _connect(
            api_url,
            _check_token(token),
            Retries(arguments.check_number("attempts", attempts, 1)),
            _check_timeout(timeout),
            Tls.read(tls_root_certs, tls_client_cert, tls_client_key),
        )

    def load_dataframe(
        self,
        df: Frame,
        dataframe_name: str,
        columns_keys: dict[Any, str] | None = None,
        external_key: str = DEFAULT_KEY,
        keep_last: bool = False,
        *,
        idempotency_key: str | None = None,
        progress: bool | None = None,
    ) -> dict[str, Any]:
        """Store a frame as a new version of a dataset.

        It is stored whole or not at all. When the call returns, the version would survive a power cut. When the
        connection breaks, the load is repeated and still makes one version.

        Parameters
        ----------
        df : pandas.DataFrame, polars.DataFrame or pyarrow.Table
        dataframe_name : str
            The dataset, for example ``project/dataset``. It is made when it is not there.
        columns_keys : dict, optional
            Which columns partition the data: column to ``Date`` or ``ID``.
        external_key : str
            Your own name for the version. ``NOW`` puts it with all others that were given none.
        keep_last : bool
            Whether the version replaces the earlier ones of its external key.
        idempotency_key : str, optional
            A later load with the same key stores nothing and gives the first one's result. Without it each call has
            a random one.
        progress : bool, optional
            Whether to show a progress bar on stderr. By default one is shown where stderr is a terminal.

        Returns
        -------
        dict
            ``df_name``, ``columns_keys``, ``external_key``, ``keep_last``, ``total_rows``, ``chunks`` (of ``path``,
            ``rows``, ``number`` and ``partition``, the first 1,000), ``chunks_total``, ``version``, ``created_at`` and
            ``duplicate`` (whether the key was loaded before).

        Raises
        ------
        ValueError
            When an argument is wrong, or the frame holds what cannot be stored exactly; the message names the column
            and the value.
        PandasDBError
            When the server refuses the load, or cannot be reached.
        """
        load = Load(
            name=arguments.check_name(dataframe_name),
            columns_keys={},
            external_key=arguments.check_text("external_key", external_key),
            keep_last=arguments.check_bool("keep_last", keep_last),
            idempotency_key=arguments.check_optional_text("idempotency_key", idempotency_key) or uuid.uuid4().hex,
        )
        keys = arguments.check_columns_keys(columns_keys)
        shown = arguments.check_progress(progress)
        encoded = self._backend.encode(df)
        load.columns_keys.update(convert.resolve_keys(encoded, keys))
        result = self._backend.load(encoded, load, shown)
        return {
            "df_name": load.name,
            "columns_keys": convert.labels_of_keys(encoded, result.get("columns_keys") or {}),
            "external_key": external_key,
            "keep_last": load.keep_last,
            "total_rows": result.get("total_rows"),
            "chunks": result.get("chunks", []),
            "chunks_total": result.get("chunks_total", len(result.get("chunks", []))),
            "version": result.get("version"),
            "created_at": result.get("created_at"),
            "duplicate": bool(result.get("duplicate", False)),
        }

    def get_dataframe(
        self,
        dataframe_name: str,
        external_key: str | None = None,
        use_last: bool = False,
        *,
        columns: Sequence[Hashable] | None = None,
        filter: str | None = None,  # noqa: A002 - the name of the field in the protocol
        version: int | None = None,
        as_of: str | datetime | None = None,
        progress: bool | None = None,
        as_: str = "pandas",
    ) -> Frame:
        """Get the rows of a dataset, as they were loaded and in their order.

        Without options these are the rows of all live versions, those that were not replaced, deleted or expired, one
        version after the other.

        Parameters
        ----------
        dataframe_name : str
        external_key : str, optional
            Only the live versions of this key.
        use_last : bool
            Only the newest live version (of the key, if one is given).
        columns : list of labels, optional
            Only these columns, in this order; the index comes along.
        filter : str, optional
            A SQL condition, for example ``"price > 10 AND item = 'a'"``; only rows for which it is true.
        version : int, optional
            Only this version, also when it is no longer live.
        as_of : str or datetime, optional
            The dataset as it stood at this instant: ISO 8601, or a datetime with a time zone.
        progress : bool, optional
            Whether to show a progress bar on stderr. By default one is shown where stderr is a terminal.
        as_ : {"pandas", "polars", "arrow"}
            What to return.

        Returns
        -------
        pandas.DataFrame, polars.DataFrame or pyarrow.Table

        Raises
        ------
        ValueError
            When an argument is wrong.
        PandasDBError
            When the server refuses the call, for example because there is no such dataset, or cannot be reached.
        """
        form = arguments.check_form(as_)
        selection = _selection(dataframe_name, external_key, use_last, columns, filter, version, as_of)
        return self._backend.decode(self._backend.read(selection, arguments.check_progress(progress)), form)

    def iter_dataframe(
        self,
        dataframe_name: str,
        external_key: str | None = None,
        use_last: bool = False,
        *,
        batch_rows: int | None = None,
        columns: Sequence[Hashable] | None = None,
        filter: str | None = None,  # noqa: A002 - the name of the field in the protocol
        version: int | None = None,
        as_of: str | datetime | None = None,
        progress: bool | None = None,
        as_: str = "pandas",
    ) -> Iterator[Frame]:
        """Get the rows of a dataset part by part, in bounded memory.

        The parts together are what :meth:`get_dataframe` gives. There is at least one, which has no rows when the
        dataset has none.

        Parameters
        ----------
        dataframe_name, external_key, use_last, columns, filter, version, as_of, progress, as_
            As those of :meth:`get_dataframe`.
        batch_rows : int, optional
            Rows of each part but the last. Without it the parts are as the server sends them, at most 4 MiB each.

        Yields
        ------
        pandas.DataFrame, polars.DataFrame or pyarrow.Table

        Raises
        ------
        ValueError, PandasDBError
            As :meth:`get_dataframe`. A connection that breaks after the first part is not mended.
        """
        form = arguments.check_form(as_)
        selection = _selection(dataframe_name, external_key, use_last, columns, filter, version, as_of)
        rows = arguments.check_optional_number("batch_rows", batch_rows, 1)
        return self._parts(selection, rows, arguments.check_progress(progress), form)

    def _parts(self, selection: Selection, rows: int | None, progress: bool | None, form: str) -> Iterator[Frame]:
        for table, first_row, total_rows in self._backend.read_parts(selection, rows, progress):
            if form == "pandas":
                yield decoding.decode_part(table, first_row, total_rows)
            else:
                yield convert.from_table(table, form)

    def list_dataframes(self, prefix: str | None = None) -> list[dict[str, Any]]:
        """List datasets.

        Parameters
        ----------
        prefix : str, optional
            Only those whose names begin with this.

        Returns
        -------
        list of dict
            ``name``, ``rows`` and ``bytes`` of each, by name; over REST also ``versions`` and ``updated_at``.
        """
        if prefix is not None and not isinstance(prefix, str):
            raise ValueError(f"prefix must be a str, not {prefix!r}")
        return self._backend.list_dataframes(prefix or "")

    def sql(self, query: str, params: Sequence[Any] | None = None, *, as_: str = "pandas") -> Frame | int:
        """Run one SQL statement.

        The table of the dataset ``project/dataset`` is ``project.dataset``; names with other letters than lower-case
        ones stand in double quotes.

        Parameters
        ----------
        query : str
        params : list, optional
            Values for ``$1``, ``$2`` and so on, or for each ``?``. Give values this way, not in the text.
        as_ : {"pandas", "polars", "arrow"}
            What to return for a query.

        Returns
        -------
        pandas.DataFrame, polars.DataFrame or pyarrow.Table
            The rows of a query; for a statement that writes an int, the number of rows that it changed.

        Raises
        ------
        ValueError
            When an argument is wrong.
        PandasDBError
            When the server refuses the statement, or cannot be reached.
        """
        arguments.check_text("query", query)
        form = arguments.check_form(as_)
        if params is not None and (isinstance(params, (str, bytes)) or not isinstance(params, Sequence)):
            raise ValueError(f"params must be a list of values, not {params!r}")
        result = self._backend.sql(query, params or ())
        if isinstance(result, int):
            return result
        return result.to_pandas(ignore_metadata=True) if form == "pandas" else convert.from_table(result, form)

    def list_versions(
        self, dataframe_name: str, external_key: str | None = None, include_replaced: bool = False
    ) -> list[dict[str, Any]]:
        """List the versions of a dataset, in order.

        Parameters
        ----------
        dataframe_name : str
        external_key : str, optional
            Only those of this key.
        include_replaced : bool
            Also those that are no longer live, until they are vacuumed.

        Returns
        -------
        list of dict
            ``version``, ``external_key``, ``state``, ``created_at``, ``created_by``, ``rows``, ``bytes``, ``chunks``,
            ``keep_last`` and ``idempotency_key`` of each.
        """
        body = self._about(dataframe_name)
        if external_key is not None:
            body["external_key"] = arguments.check_text("external_key", external_key)
        if arguments.check_bool("include_replaced", include_replaced):
            body["include_replaced"] = True
        return self._backend.act("list_versions", body)

    def describe_dataframe(self, dataframe_name: str) -> dict[str, Any]:
        """Describe a dataset.

        Returns
        -------
        dict
            ``dataframe_name``, ``schema`` (a pyarrow.Schema), ``columns_keys``, ``versions``, ``rows``, ``bytes``,
            ``chunks``, ``location``, ``retention`` and ``newest_version``.
        """
        answer = self._one("describe_dataframe", self._about(dataframe_name))
        if isinstance(answer.get("schema"), str):
            answer["schema"] = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(answer["schema"])))
        return answer

    def delete_dataframe(self, dataframe_name: str) -> None:
        """Delete a dataset with all its versions. Its name can be used anew."""
        self._backend.delete_dataframe(arguments.check_name(dataframe_name))

    def delete_version(self, dataframe_name: str, version: int) -> None:
        """Delete one version of a dataset: it is no longer live."""
        body = {**self._about(dataframe_name), "version": arguments.check_number("version", version, 1)}
        self._backend.act("delete_version", body, again=False)

    def set_retention(
        self, dataframe_name: str, keep_versions: int | None = None, keep_seconds: int | None = None
    ) -> dict[str, Any]:
        """Set which versions of each external key stay live; without a rule all do.

        Parameters
        ----------
        dataframe_name : str
        keep_versions : int, optional
            The newest so many.
        keep_seconds : int, optional
            Those younger than so many seconds. With both rules a version stays while either keeps it.

        Returns
        -------
        dict
            The rules, and ``expired``: the versions that ended at once.
        """
        body = self._about(dataframe_name)
        for key, value in (("keep_versions", keep_versions), ("keep_seconds", keep_seconds)):
            if value is not None:
                body[key] = arguments.check_number(key, value, 1)
        return self._one("set_retention", body)

    def compact(self, dataframe_name: str) -> dict[str, Any]:
        """Merge small chunks of a dataset; no read gives anything else than before.

        Returns
        -------
        dict
            ``chunks_before`` and ``chunks_after``.
        """
        return self._one("compact", self._about(dataframe_name))

    def vacuum(self, dataframe_name: str) -> dict[str, Any]:
        """Delete the files of what was replaced, deleted or merged long enough ago.

        Returns
        -------
        dict
            ``files_deleted``, ``bytes_deleted`` and ``versions_removed``.
        """
        return self._one("vacuum", self._about(dataframe_name))

    def close(self) -> None:
        """Close the connection."""
        self._backend.close()

    def __enter__(self) -> DataFrameClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"DataFrameClient(api_url={self.api_url!r})"

    @staticmethod
    def _about(dataframe_name: str) -> dict[str, Any]:
        return {"dataframe_name": arguments.check_name(dataframe_name)}

    def _one(self, action: str, body: dict[str, Any]) -> dict[str, Any]:
        answers = self._backend.act(action, body)
        return answers[0] if answers else {}


def _selection(
    name: str,
    external_key: str | None,
    use_last: bool,
    columns: Sequence[Hashable] | None,
    condition: str | None,
    version: int | None,
    as_of: str | datetime | None,
) -> Selection:
    return Selection(
        name=arguments.check_name(name),
        external_key=arguments.check_optional_text("external_key", external_key),
        use_last=arguments.check_bool("use_last", use_last),
        version=arguments.check_optional_number("version", version, 1),
        as_of=arguments.check_as_of(as_of),
        columns=arguments.check_columns(columns),
        filter=arguments.check_optional_text("filter", condition),
    )


def _connect(api_url: str, token: str | None, retries: Retries, timeout: float | None, tls: Tls) -> Backend:
    scheme, separator, rest = api_url.partition("://")
    if separator and rest.strip("/") and scheme in FLIGHT_SCHEMES:
        return FlightBackend(f"{scheme}://{rest.rstrip('/')}", token, retries, timeout, tls)
    if separator and rest.strip("/") and scheme in REST_SCHEMES:
        return RestBackend(api_url, token, retries, timeout, tls)
    raise ValueError(
        f"api_url must be grpc://host:port, grpc+tls://host:port, or http://host:port for the REST API, not {api_url!r}"
    )


def _check_token(token: str | None) -> str | None:
    if token is not None and (not isinstance(token, str) or not token.isascii() or not token.isprintable()):
        raise ValueError("auth_token must be a str of printable ASCII characters")
    return token or None


def _check_timeout(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise ValueError(f"timeout must be a number of seconds above 0, not {timeout!r}")
    return float(timeout)
