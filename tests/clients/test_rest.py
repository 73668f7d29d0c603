"""What every path of the REST API has, and the document that describes them."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rest import upload_body

# What every path has


@pytest.mark.parametrize("path", ["/", "/nope", "/dataframes/", "/dataframe", "/sql/x", "/healthz/x"])
def test_unknown_paths_are_told_in_json(rest, path):
    answer = rest("GET", path)
    assert answer.status == 404 and "openapi.json" in answer.error


@pytest.mark.parametrize(
    "method, path, allowed",
    [
        ("PUT", "/dataframes/a", {"GET", "HEAD", "DELETE"}),
        ("DELETE", "/dataframes", {"GET", "HEAD"}),
        ("GET", "/sql", {"POST"}),
        ("PATCH", "/dataframes/upload", {"GET", "HEAD", "DELETE", "POST"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
    ],
)
def test_methods_that_are_not_taken_are_told_in_json(rest, method, path, allowed):
    answer = rest(method, path, b"{}")
    assert answer.status == 405 and method in answer.error
    assert set(answer.headers["allow"].split(",")) == allowed


def test_pages_of_any_origin_may_call(rest, upload, name):
    asked = rest("OPTIONS", "/dataframes/upload", Origin="https://x.example", Access_Control_Request_Method="POST")
    assert asked.status == 204 and asked.body == b""
    assert asked.headers["access-control-allow-origin"] == "*"
    assert {"POST", "DELETE"} <= set(asked.headers["access-control-allow-methods"].split(", "))
    assert "Authorization" in asked.headers["access-control-allow-headers"]
    for answer in (upload([{"a": 1}], name), rest("GET", "/nope"), rest("PUT", "/sql"), rest("GET", "/healthz")):
        assert answer.headers["access-control-allow-origin"] == "*"


def test_a_body_must_not_be_compressed(rest, name):
    body = gzip.compress(json.dumps(upload_body([], name)).encode())
    answer = rest("POST", "/dataframes/upload", body, Content_Encoding="gzip")
    assert answer.status == 400 and "Content-Encoding" in answer.error


# The document


def test_the_document_is_of_this_version_and_names_every_path(rest):
    document = rest("GET", "/openapi.json").json
    manifest = (Path(__file__).resolve().parents[2] / "Cargo.toml").read_text()
    assert f'\nversion = "{document["info"]["version"]}"\n' in manifest
    for path, methods in document["paths"].items():
        for method in ("get", "post", "delete"):
            answer = rest(method.upper(), path.replace("{name}", "no/such"), b"{}" if method == "post" else None)
            assert (answer.status == 405) == (method not in methods), (method, path)


def test_the_server_keeps_to_its_document(start_server, tmp_path):
    """Hundreds of requests that schemathesis makes up from the document, good ones and bad ones."""
    server = start_server(http_body_limit="1MiB")
    (tmp_path / "schemathesis.toml").write_text(
        # Whether a string is a frame, a statement, a condition or a column is more than a schema can say.
        "\n".join(
            f'[[operations]]\ninclude-operation-id = "{operation}"\n'
            'checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 404]\n'
            for operation in ("uploadDataframe", "runSql", "getDataframe", "getDataframeNamedUpload")
        )
    )
    ended = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            *("--config-file", tmp_path / "schemathesis.toml", "run", server.http + "/openapi.json"),
            *("--seed", "20240101", "--max-examples", "40", "--no-color", "--generation-deterministic"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout[-6_000:] + ended.stderr[-2_000:]
