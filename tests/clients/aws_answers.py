"""What AWS answers where the stand-ins see nothing wrong: to requests for another region, and by a wrong clock.

Each function gives what ``FaultyProxy.choose`` is to be: it looks at what was signed, as AWS does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

from faulty_proxy import PASS, Reply
from stand_ins import BUCKET, REGION

Choose = Callable[[str, str, dict], str | Reply]
SCOPE = re.compile(r"Credential=[^/]+/\d+/([\w-]+)/")
INSTANT = "%Y%m%dT%H%M%SZ"
LONGEST = timedelta(minutes=5)  # By which a clock may be wrong for DynamoDB.


def _document(code: str, message: str, more: str) -> bytes:
    """Return an error document of S3."""
    ids = "<RequestId>4442587FB7D0A2F9</RequestId><HostId>aGVyZQ==</HostId>"
    error = f"<Error><Code>{code}</Code><Message>{message}</Message>{more}{ids}</Error>"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{error}'.encode()


def _by_region(status: int, document: Callable[[str], bytes]) -> Choose:
    """Return what refuses requests that were signed for another region than the bucket's."""

    def choose(method: str, path: str, headers: dict) -> str | Reply:
        signed_for = SCOPE.search(headers["authorization"])[1]
        if signed_for == REGION:
            return PASS
        told = (("x-amz-bucket-region", REGION), ("Content-Type", "application/xml"), ("Server", "AmazonS3"))
        return Reply(status, told, document(signed_for))

    return choose


def at_the_endpoint_of_the_bucket() -> Choose:
    """S3 where the bucket is, asked by who takes it for another region."""

    def document(signed_for: str) -> bytes:
        message = f"The authorization header is malformed; the region '{signed_for}' is wrong; expecting '{REGION}'"
        return _document("AuthorizationHeaderMalformed", message, f"<Region>{REGION}</Region>")

    return _by_region(400, document)


def at_the_endpoint_of_another_region() -> Choose:
    """S3 of another region, which says where the bucket is in the document and in no ``Location``."""
    message = (
        "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all "
        "future requests to this endpoint."
    )
    place = f"<Endpoint>{BUCKET}.s3-{REGION}.amazonaws.com</Endpoint><Bucket>{BUCKET}</Bucket>"
    return _by_region(301, lambda signed_for: _document("PermanentRedirect", message, place))


def of_dynamodb_by_its_clock() -> Choose:
    """DynamoDB, whose clock is right."""

    def choose(method: str, path: str, headers: dict) -> str | Reply:
        now = datetime.now(timezone.utc)
        signed = datetime.strptime(headers["x-amz-date"], INSTANT).replace(tzinfo=timezone.utc)
        earliest, latest = now - LONGEST, now + LONGEST
        if earliest <= signed <= latest:
            return PASS
        if signed < earliest:
            what, bound, sign = "expired: {} is now earlier than", earliest, "-"
        else:
            what, bound, sign = "not yet current: {} is still later than", latest, "+"
        words = f"Signature {what.format(signed.strftime(INSTANT))} {bound.strftime(INSTANT)}"
        message = f"{words} ({now.strftime(INSTANT)} {sign} 5 min.)"
        body = {"__type": "com.amazon.coral.service#InvalidSignatureException", "message": message}
        told = (("Content-Type", "application/x-amz-json-1.0"), ("Date", format_datetime(now, usegmt=True)))
        return Reply(400, told, json.dumps(body).encode())

    return choose
