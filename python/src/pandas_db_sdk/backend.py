"""What both ways of talking to a server can do, and the words for what one of them cannot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import pyarrow as pa

from . import convert
from .arguments import Load, Selection
from .errors import UnimplementedError

Frame = Any
"""A pandas or polars DataFrame, or a pyarrow Table."""


class Backend:
    """A way to talk to a server. What a way cannot do raises :class:`UnimplementedError`."""

    kind = ""

    def _refuse(self, what: str) -> NoReturn:
        raise UnimplementedError(f"{what} is not part of {self.kind}; give a grpc:// api_url", from_server=False)

    def encode(self, frame: Frame) -> Any:
        """Return a frame as it is sent, with ``names`` and ``index_names``."""
        return convert.to_encoded(frame)

    def decode(self, content: Any, form: str) -> Frame:
        """Return what :meth:`read` gave as the kind of frame that was asked for."""
        return convert.from_table(content, form)

    def load(self, frame: Any, load: Load, progress: bool | None) -> dict[str, Any]:
        """Load a frame and return what the server says of the version it made."""
        self._refuse("load_dataframe")

    def read(self, selection: Selection, progress: bool | None) -> Any:
        """Read rows."""
        self._refuse("get_dataframe")

    def read_parts(
        self, selection: Selection, part_rows: int | None, progress: bool | None
    ) -> Iterator[tuple[pa.Table, int, int]]:
        """Read rows in parts: each with the place of its first row, and how many rows there are in all."""
        self._refuse("iter_dataframe")

    def list_dataframes(self, prefix: str) -> list[dict[str, Any]]:
        """List the datasets whose names begin with a prefix."""
        self._refuse("list_dataframes")

    def sql(self, query: str, params: Sequence[Any]) -> pa.Table | int:
        """Run a statement; one that writes gives the number of rows it changed."""
        self._refuse("sql")

    def delete_dataframe(self, name: str) -> None:
        """Delete a dataset."""
        self._refuse("delete_dataframe")

    def act(self, action: str, body: dict[str, Any], *, again: bool = True) -> list[dict[str, Any]]:
        """Do something to a dataset; ``again`` says whether it may be done twice."""
        self._refuse(action)

    def close(self) -> None:
        """Close the connection."""
