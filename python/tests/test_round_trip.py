"""What goes in comes out: every kind of frame, alone, in a union, by columns and part by part."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from pandas.testing import assert_frame_equal

from kinds import PANDAS, frames
from pandas_db_sdk import InvalidArgumentError
from pandas_db_sdk.encoding import encode
from pandas_db_sdk.objects import same

FRAMES = frames()
MATRIX = {}
if PANDAS >= (3, 0):
    sys.path.append(str(Path(__file__).resolve().parents[2] / "tests/clients"))
    from frames_matrix import matrix  # That of the server's own tests, which needs the newest pandas.

    MATRIX = matrix()
PANDAS_MATRIX = {sample: frame for sample, frame in MATRIX.items() if isinstance(frame, pd.DataFrame)}
ARROW_MATRIX = {sample: table for sample, table in MATRIX.items() if isinstance(table, pa.Table)}


def assert_same(got: pd.DataFrame, sent: pd.DataFrame, *, which_missing: bool = True) -> None:
    """Check that a frame is another in everything, down to which missing value an object is if that is wanted."""
    objects = [position for position, kind in enumerate(sent.dtypes) if str(kind) == "object"]
    assert list(got.dtypes) == list(sent.dtypes)
    for position in objects:
        for one, other in zip(got.iloc[:, position], sent.iloc[:, position]):
            absent = one is other or (isinstance(other, float) and pd.isna(other) and isinstance(one, float))
            absent = (absent or not which_missing) and pd.isna(one) is True and pd.isna(other) is True
            assert absent or same(other, one), (one, other)
    kept = [position for position in range(sent.shape[1]) if position not in objects]
    if not which_missing and sent.index.dtype == object and not isinstance(sent.index, pd.MultiIndex):
        assert [*got.index.fillna("?")] == [*sent.index.fillna("?")]
        got, sent = got.set_axis(sent.index, axis=0), sent
    assert_frame_equal(got.iloc[:, kept], sent.iloc[:, kept], check_exact=True)
    assert same(dict(sent.attrs), dict(got.attrs))
    assert got.columns.equals(sent.columns)
    assert type(got.columns) is type(sent.columns) or not len(sent.columns)


@pytest.mark.parametrize("sample", FRAMES)
def test_a_frame_comes_back_alone_and_as_a_version_of_two(client, name, sample):
    sent = FRAMES[sample]
    before = sent.copy()
    result = client.load_dataframe(sent, name)
    assert result["total_rows"] == len(sent)
    assert_same(client.get_dataframe(name), sent)
    assert_same(sent, before)
    client.load_dataframe(sent, name)
    assert_same(client.get_dataframe(name, version=2), sent)
    if sent.shape[1]:
        assert len(client.get_dataframe(name)) == 2 * len(sent)


@pytest.mark.parametrize("sample", [sample for sample, frame in FRAMES.items() if len(frame) > 1 and frame.shape[1]])
def test_two_halves_come_back_as_one(client, name, sample):
    """But for the frequency of an index, which no part need have, and which missing value an object is.

    That is a column's own affair, and in a union the newest version tells it.
    """
    sent = FRAMES[sample]
    half = len(sent) // 2
    client.load_dataframe(sent.iloc[:half], name)
    first, second = (encode(part).table.schema for part in (sent.iloc[:half], sent.iloc[half:]))
    kinds = [{schema.field(each).type for schema in (first, second)} for each in {*first.names} & {*second.names}]
    if any(len(kind) > 1 and pa.null() not in kind for kind in kinds):
        # Objects that Arrow has in one half alone.
        with pytest.raises(InvalidArgumentError, match="has the type .* in earlier versions and .* in this load"):
            client.load_dataframe(sent.iloc[half:], name)
        return
    client.load_dataframe(sent.iloc[half:], name)
    got = client.get_dataframe(name)
    whole = pd.concat([sent.iloc[:half], sent.iloc[half:]])
    whole.attrs = sent.attrs
    if sent.index.dtype == object and not isinstance(sent.index, pd.MultiIndex):
        whole.index = sent.index  # concat may have made it another kind of text.
    if isinstance(sent.index, pd.RangeIndex):
        whole, got = whole.reset_index(drop=True), got.reset_index(drop=True)
    if isinstance(sent.index, (pd.DatetimeIndex, pd.TimedeltaIndex)):
        whole.index.freq = got.index.freq
    assert_same(got, whole, which_missing=False)


@pytest.mark.parametrize("sample", [sample for sample, frame in FRAMES.items() if frame.shape[1] and len(frame)])
def test_the_parts_together_are_the_frame(client, name, sample):
    sent = FRAMES[sample]
    client.load_dataframe(sent, name)
    parts = list(client.iter_dataframe(name, batch_rows=4))
    assert [len(part) for part in parts] == [min(4, len(sent) - at) for at in range(0, len(sent), 4)]
    at = 0
    for part in parts:
        expected = sent.iloc[at : at + len(part)]
        at += len(part)
        if isinstance(sent.index, (pd.DatetimeIndex, pd.TimedeltaIndex)):
            part.index.freq = expected.index.freq
        assert_same(part, expected)
    assert at == len(sent)


@pytest.mark.parametrize(
    "sample", [sample for sample, frame in FRAMES.items() if frame.columns.is_unique and frame.shape[1] > 1]
)
def test_columns_come_by_their_labels_with_the_index(client, name, sample):
    sent = FRAMES[sample]
    client.load_dataframe(sent, name)
    wanted = list(sent.columns)[:3][::-1]
    got = client.get_dataframe(name, columns=wanted)
    expected = sent.iloc[:, : len(wanted)].iloc[:, ::-1]
    expected.attrs = sent.attrs
    if isinstance(sent.columns, pd.DatetimeIndex):
        got.columns.freq = expected.columns.freq
    if isinstance(sent.columns, pd.RangeIndex):
        got.columns = expected.columns = list(expected.columns)
    assert_same(got, expected)


@pytest.mark.parametrize("sample", PANDAS_MATRIX)
def test_the_frames_of_the_servers_own_matrix_come_back(client, name, sample):
    sent = PANDAS_MATRIX[sample]
    client.load_dataframe(sent, name)
    assert_same(client.get_dataframe(name), sent)


@pytest.mark.parametrize("sample", ARROW_MATRIX)
def test_a_table_comes_back_as_it_was_sent(client, name, sample):
    sent = ARROW_MATRIX[sample]
    client.load_dataframe(sent, name)
    got = client.get_dataframe(name, as_="arrow")
    assert got.schema.equals(sent.schema, check_metadata=True)
    assert got.num_rows == sent.num_rows


def test_plain_frames_are_sent_as_pyarrow_makes_them(server, client, name):
    """So other clients of Arrow read what the SDK loads, and the SDK what they load."""
    frame = pd.DataFrame({"i": [1, 2], "t": pd.to_datetime(["2024-01-01", None]), "c": pd.Categorical(["a", None])})
    client.load_dataframe(frame, name)
    with flight.connect(server.flight) as raw:
        table = raw.do_get(flight.Ticket(f'{{"dataframe_name": "{name}"}}'.encode())).read_all()
    assert table.schema.equals(pa.Table.from_pandas(frame).schema, check_metadata=True)
    assert_frame_equal(table.to_pandas(), frame)


def test_other_clients_read_special_frames_too(server, client, name):
    """Complex numbers are structs to them, repeated labels have numbers."""
    client.load_dataframe(pd.DataFrame([[1j, 2]], columns=["a", "a"]), name)
    with flight.connect(server.flight) as raw:
        table = raw.do_get(flight.Ticket(f'{{"dataframe_name": "{name}"}}'.encode())).read_all()
    assert table.to_pylist() == [{"a": {"real": 0.0, "imag": 1.0}, "a.1": 2}]
    assert client.sql(f'SELECT "a.1" AS n FROM "{name.rpartition("/")[0]}"."{name.rpartition("/")[2]}"')[
        "n"
    ].tolist() == [2]


def test_a_column_that_one_version_lacks_is_missing_in_its_rows(client, name):
    """Each kind of column has its own missing value, and the labels of both versions stand."""
    first = pd.DataFrame({"x": [1], "c": [1j], 7: pd.array(["a"], "string[python]")})
    client.load_dataframe(first, name)
    client.load_dataframe(pd.DataFrame({"x": [2], 8: [2.5]}), name)
    got = client.get_dataframe(name)
    assert list(got.columns) == ["x", "c", 7, 8]
    assert got["x"].tolist() == [1, 2]
    assert got["c"][0] == 1j
    assert pd.isna(got["c"][1])
    assert got[7].tolist()[0] == "a"
    assert got[7].isna().tolist() == [False, True]
    assert got[8].isna().tolist() == [True, False]


def test_columns_that_sql_names_anew_have_that_name(client, name):
    """The metadata of a column may go with it where SQL makes another of it."""
    sent = pd.DataFrame([[1j, 2, "x"]], columns=["a", "a", 7])
    client.load_dataframe(sent, name)
    schema, _, last = name.rpartition("/")
    query = f'SELECT a AS first, "a.1" AS a, "7" FROM "{schema}"."{last}"'
    assert list(client.sql(query).columns) == ["first", "a", "7"]
    assert client.sql(f'CREATE TABLE "{schema}"."{last} copy" AS {query}') == 1
    got = client.get_dataframe(f"{name} copy")
    assert list(map(str, got.columns)) == ["first", "a", "7"]
    assert got["a"].tolist() == [2]


def test_columns_that_others_name_anew_have_that_name(client, name):
    """Arrow keeps the metadata of a column that is renamed, and with it the label that it had."""
    client.load_dataframe(pd.DataFrame([[1j, 2, "x"]], columns=["a", "a", 7]), name)
    table = client.get_dataframe(name, as_="arrow").rename_columns(["p", "a", "q"])
    client.load_dataframe(table, f"{name}/renamed")
    got = client.get_dataframe(f"{name}/renamed")
    assert list(got.columns) == ["p", "a", "q"]
    assert got["p"].tolist() == [1j]


def test_a_column_that_was_widened_comes_as_pyarrow_makes_it(client, name):
    client.load_dataframe(pd.DataFrame({"x": pd.Series([1, 2], dtype=object)}), name)
    client.load_dataframe(pd.DataFrame({"x": [2.5]}), name)
    assert client.get_dataframe(name)["x"].tolist() == [1.0, 2.0, 2.5]


def test_somebody_elses_metadata_under_our_key_is_left_alone(client, name):
    table = pa.table({"x": [1]}).replace_schema_metadata({"pandas_db": "mine"})
    client.load_dataframe(table, name)
    assert client.get_dataframe(name)["x"].tolist() == [1]
    assert client.get_dataframe(name, as_="arrow").schema.metadata == {b"pandas_db": b"mine"}
