"""The scripts in `benches/` run, on little data, and fail where a figure is exceeded."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import conftest
import pytest

pytestmark = pytest.mark.any_backend("it runs benches that start their own servers")

BENCHES = Path(__file__).resolve().parents[2] / "benches"


def run(script: str, *words: str) -> subprocess.CompletedProcess:
    """Run a bench to its end."""
    command = [sys.executable, str(BENCHES / script), "--bin", conftest.binary(), *words]
    return subprocess.run(command, env=conftest.clean_environment(), capture_output=True, text=True, timeout=600)


def test_frame_roundtrip_prints_ratios_for_both_variants():
    ended = run(
        "frame_roundtrip.py", "--rows", "20000", "--repeat", "1", "--max-load-ratio", "1000", "--max-get-ratio", "1000"
    )
    assert ended.returncode == 0, ended
    found = re.findall(r"^(sorted|shuffled)\s+(load|get)\s+[\d.]+\s+[\d.]+\s+([\d.]+)$", ended.stdout, re.MULTILINE)
    assert [row[:2] for row in found] == [
        ("sorted", "load"),
        ("sorted", "get"),
        ("shuffled", "load"),
        ("shuffled", "get"),
    ]
    assert all(float(row[2]) > 0 for row in found)


@pytest.mark.parametrize("limit", ["--max-load-ratio", "--max-get-ratio"])
def test_frame_roundtrip_fails_over_a_ratio(limit):
    ended = run("frame_roundtrip.py", "--rows", "2000", "--repeat", "1", limit, "0.000001")
    assert ended.returncode == 1, ended
    assert "over" in ended.stdout


def test_sdk_overhead_prints_ratios_and_fails_over_one():
    ended = run("sdk_overhead.py", "--rows", "2000", "--repeat", "2", "--max-ratio", "0.000001")
    assert ended.returncode == 1, ended
    assert "over" in ended.stdout
    found = re.findall(r"^(load|get)\s+[\d.]+\s+[\d.]+\s+([\d.]+)$", ended.stdout, re.MULTILINE)
    assert [row[0] for row in found] == ["load", "get"]
    assert all(float(row[1]) > 0 for row in found)


def test_memory_prints_the_peak_of_every_variant():
    ended = run("memory.py", "--gb", "0.02")
    assert ended.returncode == 0, ended
    found = re.findall(
        r"^(sorted|shuffled|unkeyed)\s+(load|get)\s+\d+ MiB sent or read, peak (\d+) MiB$", ended.stdout, re.MULTILINE
    )
    assert [row[:2] for row in found] == [
        ("sorted", "load"),
        ("sorted", "get"),
        ("shuffled", "load"),
        ("shuffled", "get"),
        ("unkeyed", "load"),
        ("unkeyed", "get"),
    ]
    assert all(int(row[2]) > 0 for row in found)


def test_memory_fails_over_the_limit():
    ended = run("memory.py", "--gb", "0.02", "--max-mib", "1")
    assert ended.returncode == 1, ended
    assert "over" in ended.stdout


def test_versions_prints_ratios_and_fails_over_one():
    ended = run("versions.py", "--few", "3", "--many", "12", "--repeat", "2", "--max-plan-ratio", "0.000001")
    assert ended.returncode == 1, ended
    assert "over" in ended.stdout
    found = re.findall(r"^(info|sql|commit)\s+[\d.]+\s+[\d.]+\s+([\d.]+)$", ended.stdout, re.MULTILINE)
    assert [row[0] for row in found] == ["info", "sql", "commit"]
    assert all(float(row[1]) > 0 for row in found)
