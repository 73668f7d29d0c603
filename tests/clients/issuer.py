"""An OpenID Connect issuer for tests: it signs tokens with keys of its own and serves the public ones over HTTP."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

AUDIENCE = "pandas-db-tests"


class Key:
    """A signing key.

    Parameters
    ----------
    kid : str
        The id of the key.
    algorithm : str
        RS256, PS256, ES256, ES384 or EdDSA.
    **public : object
        What else the published key says.
    """

    def __init__(self, kid: str, algorithm: str = "RS256", **public: object):
        self.kid, self.algorithm = kid, algorithm
        if algorithm.startswith(("RS", "PS")):
            self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        elif algorithm == "EdDSA":
            self.private = ed25519.Ed25519PrivateKey.generate()
        else:
            self.private = ec.generate_private_key(ec.SECP256R1() if algorithm == "ES256" else ec.SECP384R1())
        published = jwt.get_algorithm_by_name(algorithm).to_jwk(self.private.public_key(), as_dict=True)
        published.pop("key_ops", None)
        self.public = published | {"kid": kid, "use": "sig", "alg": algorithm} | public


class Issuer:
    """A running issuer.

    Attributes
    ----------
    url : str
        The issuer's name, which is where it is.
    keys : list of Key
        Those it publishes; the first one signs.
    requests : list of str
        The paths that were asked for.
    answer : function or None
        What answers instead, given the handler, while it is not None.
    """

    def __init__(self, *keys: Key):
        self.keys, self.requests, self.answer = list(keys), [], None
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requests.append(self.path)
                if issuer.answer is not None:
                    issuer.answer(self)
                elif self.path == "/pool/.well-known/openid-configuration":
                    self.reply({"issuer": issuer.url, "jwks_uri": issuer.url + "/keys"})
                elif self.path == "/pool/keys":
                    self.reply({"keys": [key.public for key in issuer.keys]})
                else:
                    self.send_error(404)

            def reply(self, document: object) -> None:
                body = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/pool"

    def stop(self) -> None:
        """End it; a second time changes nothing."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fetches(self) -> int:
        """Return how often the keys were asked for."""
        return sum(path == "/pool/keys" for path in self.requests)

    def claims(self, subject: str = "ann", **changes: object) -> dict:
        """Return claims that are good but for the changes; None takes one out."""
        now = int(time.time())
        claims = {"iss": self.url, "sub": subject, "aud": AUDIENCE, "exp": now + 600, "iat": now} | changes
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, subject: str = "ann", *, key: Key | None = None, headers: dict | None = None, **changes) -> str:
        """Sign a token."""
        key = key or self.keys[0]
        headers = {"kid": key.kid} | (headers or {})
        return jwt.encode(self.claims(subject, **changes), key.private, key.algorithm, headers=headers)

    def settings(self) -> dict[str, str]:
        """Return the settings of a server that takes its tokens."""
        return {"auth": "jwt", "jwt_issuer": self.url, "jwt_audience": AUDIENCE}


@contextmanager
def running(*keys: Key) -> Iterator[Issuer]:
    """Run an issuer."""
    issuer = Issuer(*keys)
    try:
        yield issuer
    finally:
        issuer.stop()
