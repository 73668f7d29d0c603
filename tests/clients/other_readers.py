"""How other programs open what is stored, whatever the backend."""

from __future__ import annotations

import backends
import deltalake
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from backends import Place


def parquet_file(place: Place) -> pq.ParquetFile:
    """Open a chunk with nothing but pyarrow."""
    return pq.ParquetFile(pa.BufferReader(place.read_bytes()))


def delta_table(root: Place) -> deltalake.DeltaTable:
    """Open a dataset with delta-rs."""
    return deltalake.DeltaTable(backends.uri(root), storage_options=backends.chosen().delta_options())


def delta_rows(root: Place) -> pa.Table:
    """Read a dataset with delta-rs, all columns."""
    return pa.table(delta_table(root).to_pyarrow_table())


def scan_delta(root: Place) -> pl.LazyFrame:
    """Open a dataset with polars."""
    return pl.scan_delta(backends.uri(root), storage_options=backends.chosen().delta_options())
