"""README.md says what is so: its code runs, and its tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path

from pandas_db_sdk import DataFrameClient

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
ADDRESS = "grpc://127.0.0.1:50051"


def test_the_code_runs(start_server, capsys):
    server = start_server()
    names: dict = {}
    for code in BLOCKS:
        exec(compile(code.replace(ADDRESS, server.flight), "README.md", "exec"), names)
    assert names["df_retrieved"].equals(names["df"])
    assert capsys.readouterr().out == "2\n"
    assert names["client"].describe_dataframe("my-project/dataset1")["retention"] == {"keep_versions": 3}
    names["client"].close()


def test_every_call_is_in_the_table():
    told = set(re.findall(r"`(\w+)(?:\(.*?\))?`", README.split("| call | what it does |")[1].split("\n\n")[0]))
    calls = {name for name in vars(DataFrameClient) if not name.startswith("_")} - {"close"}
    assert calls <= told


def test_what_it_needs_is_what_is_declared():
    declared = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text()
    assert 'requires-python = ">=3.9"' in declared
    assert 'dependencies = ["pandas>=1.5", "pyarrow>=14.0.1", "tqdm>=4.60"]' in declared
    assert "Python 3.9 or later, pandas 1.5 to 3, pyarrow 14.0.1 or later, tqdm." in README
