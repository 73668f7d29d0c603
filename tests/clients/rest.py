"""The REST API as its users call it: the client class of the first SDK, and plain calls."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
PATIENCE = 120  # Seconds after which a server that says nothing is taken for hung.


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> object:
        """The body, read as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The message of a refusal."""
        assert self.headers["content-type"] == "application/json", self
        [(key, message)] = self.json.items()
        assert key == "error" and message.startswith("["), self
        return message


def call(base: str, method: str, path: str, body: object = None, **headers: str) -> Answer:
    """Make one call.

    Parameters
    ----------
    base : str
        The address of the server.
    method, path : str
    body : bytes or object, optional
        What is not bytes is sent as JSON.
    **headers : str
        Their names with underscores.
    """
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(base + path, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return Answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


def upload_body(frame: pd.DataFrame | list | str, name: str, **options) -> dict:
    """Return the body of an upload; a string is sent as the text of the frame."""
    if isinstance(frame, pd.DataFrame):
        text = frame.to_json(orient="records", date_format="iso")
    else:
        text = frame if isinstance(frame, str) else json.dumps(frame)
    return {"dataframe": text, "dataframe_name": name, **options}


class FirstClient:
    """What the users of the first SDK have: its methods, its calls, and what it makes of the answers.

    Parameters
    ----------
    api_url, auth_token : str
    """

    def __init__(self, api_url: str, auth_token: str):
        self.api_url = api_url.rstrip("/")
        self.headers = {"Authorization": f"Bearer {auth_token}", "Content-Type": "application/json"}

    def _call(self, method: str, path: str, params: dict | None = None, body: dict | None = None) -> object:
        query = "?" + urllib.parse.urlencode(params) if params else ""
        answer = call(self.api_url, method, path + query, body, **self.headers)
        if answer.status != 200:
            raise RuntimeError(f"Error: {answer.json.get('error')}")
        return answer.json

    def load_dataframe(self, df, dataframe_name, columns_keys=None, external_key="NOW", keep_last=False) -> dict:
        """Store a frame, and return its metadata."""
        with warnings.catch_warnings():
            # Times go as milliseconds, which pandas means to give up.
            warnings.simplefilter("ignore")
            text = df.to_json(orient="records", date_format="epoch", date_unit="ms")
        body = {
            "dataframe": text,
            "dataframe_name": dataframe_name,
            "columns_keys": columns_keys,
            "external_key": external_key,
            "keep_last": keep_last,
        }
        return self._call("POST", "/dataframes/upload", body=body)

    def get_dataframe(self, dataframe_name, external_key=None, use_last=False) -> pd.DataFrame:
        """Return the rows of a dataset."""
        params = {"external_key": external_key} if external_key else {}
        if use_last:
            params["use_last"] = "true"
        return pd.DataFrame(self._call("GET", f"/dataframes/{urllib.parse.quote(dataframe_name)}", params))

    def list_dataframes(self, prefix=None) -> dict:
        """Return what datasets there are."""
        return self._call("GET", "/dataframes", {"prefix": prefix} if prefix else None)


def records(rest: Callable[..., Answer], name: str, query: str = "") -> list[dict]:
    """Read the rows of a dataset."""
    answer = rest("GET", f"/dataframes/{urllib.parse.quote(name)}{query}")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer
    return answer.json
