"""`--auth jwt`: tokens of an issuer, good and bad; its keys as they change, go and come back; tenants of claims."""

from __future__ import annotations

import base64
import hmac
import json
import time

import adbc_driver_flightsql.dbapi as adbc
import callers
import issuer as oidc
import jwt
import pyarrow.flight as flight
import pytest
from callers import basic, bearer, client_of, code_of, flight_calls, handshake, http, raw_of
from frames import assert_absent, get, list_names, load, refused
from issuer import AUDIENCE, Key
from test_serve import assert_refuses_to_start

pytestmark = pytest.mark.any_backend("it is about who is let in")

RSA, RSA_2, EC, EC_384, ED, PSS, STRANGER = (
    Key("rsa-1"),
    Key("rsa-2"),
    Key("ec-1", "ES256"),
    Key("ec-384", "ES384"),
    Key("ed-1", "EdDSA"),
    Key("ps-1", "PS256"),
    Key("rsa-1"),
)


@pytest.fixture
def issuer():
    """An issuer with a key of each kind."""
    with oidc.running(RSA, EC, EC_384, ED, PSS) as started:
        yield started


@pytest.fixture
def jwt_server(start_server, issuer):
    """A server that takes its tokens."""
    return start_server(**issuer.settings())


def code(server, header: str | None) -> str:
    """Return the code of a call that any caller may make."""
    with raw_of(server.flight, header) as raw:
        return code_of(lambda raw: raw.actions(), raw)


@pytest.mark.parametrize("key", [RSA, EC, EC_384, ED, PSS], ids=lambda key: key.algorithm)
def test_tokens_of_every_kind_of_key_are_taken(jwt_server, issuer, key):
    header = bearer(issuer.token(key=key))
    with client_of(jwt_server.flight, header) as client:
        load(client, callers.FRAME, "data")
        assert get(client, "data").num_rows == 1
    status, answer = http(jwt_server, "GET", "/dataframes/data", header)
    assert (status, json.loads(answer)) == (200, [{"x": 1}])


def test_id_and_access_tokens_of_cognito_are_taken(jwt_server, issuer):
    id_token = issuer.token(token_use="id", **{"cognito:groups": ["a"], "cognito:username": "ann"})
    access_token = issuer.token(token_use="access", aud=None, client_id=AUDIENCE, scope="openid")
    for token in (id_token, access_token):
        with client_of(jwt_server.flight, bearer(token)) as client:
            load(client, callers.FRAME, "data", keep_last=True)
            assert list_names(client) == ["data"]


def unsigned(algorithm: object, claims: dict, signature: str = "") -> str:
    """Put a token together by hand."""
    parts = [{"alg": algorithm, "typ": "JWT", "kid": RSA.kid}, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, signature])


def hmac_signed(secret: bytes, claims: dict) -> str:
    """Sign with HMAC what should be signed with a private key."""
    token = unsigned("HS256", claims).removesuffix(".")
    tag = hmac.digest(secret, token.encode(), "sha256")
    return f"{token}.{base64.urlsafe_b64encode(tag).rstrip(b'=').decode()}"


def public_pem(key: Key) -> bytes:
    """Return the public key as a PEM file, which is what confused libraries take for an HMAC secret."""
    from cryptography.hazmat.primitives import serialization

    public = key.private.public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def bad_tokens(issuer: oidc.Issuer) -> dict[str, str]:
    """Return tokens that must be refused, by what is wrong with them."""
    now, good = int(time.time()), issuer.token()
    header, body, signature = good.split(".")
    other = issuer.token("bob").split(".")
    jwks = json.dumps(RSA.public).encode()
    tokens = {
        "expired": issuer.token(exp=now - 60),
        "no exp": issuer.token(exp=None),
        "not yet": issuer.token(nbf=now + 90),
        "other issuer": issuer.token(iss="https://issuer.example"),
        "issuer with a slash": issuer.token(iss=issuer.url + "/"),
        "no issuer": issuer.token(iss=None),
        "no subject": issuer.token(sub=None),
        "empty subject": issuer.token(""),
        "other audience": issuer.token(aud="other"),
        "no audience": issuer.token(aud=None),
        "audience of another, client ours": issuer.token(aud="other", client_id=AUDIENCE),
        "id token for its client": issuer.token(token_use="id", aud=None, client_id=AUDIENCE),
        "access token of another client": issuer.token(token_use="access", aud=None, client_id="other"),
        "refresh token": issuer.token(token_use="refresh"),
        "unknown key": issuer.token(headers={"kid": "no-such-key"}),
        "key that is a path": issuer.token(headers={"kid": "../../etc/passwd"}),
        "no key": jwt.encode(issuer.claims(), RSA.private, "RS256"),
        "key of a stranger": issuer.token(key=STRANGER),
        "own key in the header": issuer.token(key=STRANGER, headers={"jwk": STRANGER.public}),
        "own key by address": issuer.token(key=STRANGER, headers={"jku": issuer.url + "/evil"}),
        "critical extension": issuer.token(headers={"crit": ["x"], "x": 1}),
        "other type": issuer.token(headers={"typ": "logout+jwt"}),
        "RS384 with a key for RS256": jwt.encode(issuer.claims(), RSA.private, "RS384", headers={"kid": RSA.kid}),
        "PS256 with a key for RS256": jwt.encode(issuer.claims(), RSA.private, "PS256", headers={"kid": RSA.kid}),
        "ES256 with the id of an RSA key": jwt.encode(issuer.claims(), EC.private, "ES256", headers={"kid": RSA.kid}),
        "public key as secret": hmac_signed(public_pem(RSA), issuer.claims()),
        "published key as secret": hmac_signed(jwks, issuer.claims()),
        "empty secret": hmac_signed(b"", issuer.claims()),
        "stripped signature": f"{header}.{body}.",
        "two parts": f"{header}.{body}",
        "body of another": f"{header}.{other[1]}.{signature}",
        "cut signature": f"{header}.{body}.{signature[:-8]}",
        "too long": issuer.token(extra="x" * 6_300),
        "opaque": "abc",
        "dots": "..",
    }
    for algorithm in ("none", "None", "nOnE", "", None, ["RS256"]):
        tokens[f"alg {algorithm!r}"] = unsigned(algorithm, issuer.claims())
        tokens[f"alg {algorithm!r} with a signature"] = unsigned(algorithm, issuer.claims(), signature)
    return tokens


def test_bad_tokens_are_refused_on_every_way_in(jwt_server, issuer):
    assert code(jwt_server, bearer(issuer.token())) == "OK"
    for what, token in bad_tokens(issuer).items():
        for header in (bearer(token), basic("token", token)):
            assert code(jwt_server, header) == "UNAUTHENTICATED", what
        status, answer = http(jwt_server, "GET", "/dataframes", bearer(token))
        assert status == 401 and token not in answer, what
        with raw_of(jwt_server.flight, bearer(token)) as raw:
            assert code_of(handshake, raw) == "UNAUTHENTICATED", what
    assert "/pool/evil" not in issuer.requests
    # However many keys are made up.
    assert issuer.fetches() <= 2


@pytest.mark.local_only("S3 takes no request by such a clock")
@pytest.mark.parametrize(
    ("off_by", "why"), [(3_600, "it has expired"), (-3_600, "not good yet; the clocks may differ")]
)
def test_a_server_whose_clock_is_wrong_says_what_it_takes_the_token_for(start_server, issuer, off_clock, off_by, why):
    server = start_server(**issuer.settings(), env=off_clock(off_by))
    token = issuer.token(nbf=int(time.time()))
    with client_of(server.flight, bearer(token)) as client, refused("UNAUTHENTICATED", mentions=[why]):
        list_names(client)
    status, answer = http(server, "GET", "/dataframes", bearer(token))
    assert status == 401 and why in answer, answer


def test_every_call_wants_a_token(jwt_server, issuer):
    with client_of(jwt_server.flight, bearer(issuer.token())) as ann:
        load(ann, callers.FRAME, "data")
    for header in (None, basic("ann", "password"), bearer(issuer.token(exp=1))):
        with raw_of(jwt_server.flight, header) as raw:
            for name, call in flight_calls("data").items():
                assert code_of(call, raw) == "UNAUTHENTICATED", name
        for method, path, body in callers.http_calls("data"):
            assert http(jwt_server, method, path, header, body)[0] == 401, path


def test_a_log_in_answers_with_a_token_that_lasts_no_longer(jwt_server, issuer):
    token = issuer.token(exp=int(time.time()) + 120)
    for header, payloads in (
        (bearer(token), ()),
        (basic("token", token), ()),
        (None, (callers.basic_payload("token", token),)),
    ):
        with raw_of(jwt_server.flight, header) as raw:
            answer, _ = handshake(raw, *payloads)
        ours = answer.removeprefix("Bearer ")
        assert ours.startswith("pandas_db_") and ours != token
        claims = jwt.decode(ours.removeprefix("pandas_db_"), options={"verify_signature": False})
        assert claims["exp"] == jwt.decode(token, options={"verify_signature": False})["exp"]
        assert code(jwt_server, answer) == "OK"
    with adbc.connect(jwt_server.flight, db_kwargs={"username": "token", "password": token}) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            assert cursor.fetchall() == [(1,)]


def test_a_new_key_is_taken_after_one_fetch_and_a_withdrawn_one_no_more(jwt_server, issuer):
    assert code(jwt_server, bearer(issuer.token())) == "OK"
    old, fetches = issuer.token(), issuer.fetches()
    issuer.keys = [RSA_2]
    assert code(jwt_server, bearer(issuer.token())) == "OK"
    assert issuer.fetches() == fetches + 1
    assert code(jwt_server, bearer(old)) == "UNAUTHENTICATED"


def test_an_issuer_that_is_away_lets_in_whom_it_let_in_before(jwt_server, issuer):
    assert code(jwt_server, bearer(issuer.token())) == "OK"
    issuer.stop()
    assert code(jwt_server, bearer(issuer.token("bob"))) == "OK"
    assert code(jwt_server, bearer(issuer.token(key=RSA_2))) == "UNAUTHENTICATED"


def _redirect(handler) -> None:
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.end_headers()


ANSWERS = {
    "error": lambda handler: handler.send_error(500),
    "redirect": _redirect,
    "no JSON": lambda handler: handler.reply(b"<html>"),
    "empty set": lambda handler: handler.reply({"keys": []}),
    "huge": lambda handler: handler.reply(b" " * (2 << 20)),
    "secrets": lambda handler: handler.reply(
        {"keys": [{"kty": "oct", "kid": RSA.kid, "k": "c2VjcmV0", "alg": "HS256"}]}
    ),
    "same id twice": lambda handler: handler.reply({"keys": [RSA.public, STRANGER.public]}),
    "for encryption": lambda handler: handler.reply({"keys": [RSA.public | {"use": "enc"}]}),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_keys_that_cannot_be_had_let_nobody_in(start_server, issuer, answer):
    issuer.answer = ANSWERS[answer]
    settings = issuer.settings() | {"jwks_url": issuer.url + "/keys"}
    server = start_server(**settings)
    for token in (issuer.token(), hmac_signed(b"secret", issuer.claims())):
        assert code(server, bearer(token)) in ("UNAVAILABLE", "UNAUTHENTICATED")
    assert http(server, "GET", "/dataframes", bearer(issuer.token()))[0] in (401, 503)


def test_a_discovery_document_of_another_issuer_is_not_believed(start_server, issuer):
    def answer(handler):
        handler.reply({"issuer": issuer.url + "x", "jwks_uri": issuer.url + "/keys"})

    issuer.answer = answer
    server = start_server(**issuer.settings())
    assert code(server, bearer(issuer.token())) == "UNAVAILABLE"
    assert issuer.fetches() == 0


def test_the_server_starts_while_the_issuer_is_away(start_server):
    with oidc.running(RSA) as issuer:
        settings, token = issuer.settings(), issuer.token()
    server = start_server(**settings)
    assert code(server, bearer(token)) == "UNAVAILABLE"
    assert server.fetch("/readyz")[0] == 200


def test_tenants_are_what_the_claim_says_byte_by_byte(start_server, issuer):
    server = start_server(**issuer.settings(), jwt_tenant_claim="custom:tenant")
    tenants = [
        "acme",
        "Acme",
        "acme/eu",
        "acme/",
        "acm",
        "..",
        ".",
        "a!2Fb",
        "a/b",
        "é",
        "e\u0301",
        "default",
        "x" * 200,
    ]

    def connect(tenant: str, subject: str = "ann"):
        return client_of(server.flight, bearer(issuer.token(subject, **{"custom:tenant": tenant})))

    for number, tenant in enumerate(tenants):
        with connect(tenant) as client:
            assert list_names(client) == [], tenant
            load(client, callers.FRAME.slice(0, number % 2), "same/name")
            load(client, callers.FRAME, f"only_{number}")
    for number, tenant in enumerate(tenants):
        with connect(tenant, "bob") as client:
            assert list_names(client) == [f"only_{number}", "same/name"], tenant
            assert get(client, "same/name").num_rows == number % 2
            assert_absent(client, f"only_{number + 1}")
    folders = {path.name for path in (server.storage / "tenants").iterdir()}
    assert len(folders) == len(tenants)
    for tenant in (None, "", 7, ["acme"], "a\nb", "x" * 300):
        assert code(server, bearer(issuer.token(**{"custom:tenant": tenant}))) == "UNAUTHENTICATED", tenant


def test_every_user_is_alone_when_no_claim_is_named(jwt_server, issuer):
    with client_of(jwt_server.flight, bearer(issuer.token("ann"))) as ann:
        load(ann, callers.FRAME, "data")
        info = ann.get_flight_info(flight.FlightDescriptor.for_path("data"))
    # A header that says otherwise says nothing.
    with client_of(jwt_server.flight, bearer(issuer.token("bob", tenant="ann"))) as bob:
        assert_absent(bob, "data")
        with refused("INVALID_ARGUMENT"):
            bob.do_get(info.endpoints[0].ticket).read_all()


def test_settings_that_cannot_be_are_refused(tmp_path):
    def refused_start(mention: str, **settings: str) -> None:
        words = [word for key, value in settings.items() for word in ("--" + key.replace("_", "-"), value)]
        assert_refuses_to_start(["--listen", "127.0.0.1:0", *words], tmp_path, mention)

    good = {"auth": "jwt", "jwt_issuer": "https://issuer.example", "jwt_audience": "app"}
    refused_start("--jwt-issuer", **{key: value for key, value in good.items() if key != "jwt_issuer"})
    refused_start("--jwt-audience", **{key: value for key, value in good.items() if key != "jwt_audience"})
    refused_start("--jwt-issuer", **good | {"jwt_issuer": "issuer"})
    refused_start("--insecure", **good | {"jwt_issuer": "http://issuer.example"})
    refused_start("--jwks-url", **good, jwks_url="file:///keys.json")
    refused_start("--users-file", **good, users_file="users.toml")
    refused_start("--jwt-issuer", jwt_issuer="https://issuer.example")
