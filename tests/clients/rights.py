"""Kinds of callers, what each may do, and what a server must answer them.

The answers follow from two things alone: the right that a call wants (``rights_calls``) and the right that a caller
has on the dataset. Nothing here is taken from what a server answered.
"""

from __future__ import annotations

import enum
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

import callers
import conftest
import flight_sql as fs
import grpc
import wire
from wire import text

TENANT, FOREIGN_TENANT = "acme_zq", "acme_z"
# The dataset that the calls are about, and the name of none: as long, and else alike.
NAME, ABSENT = "matrix/secret_zq", "matrix/absent_zq"
COLUMN, KEY, IDEMPOTENCY_KEY, VALUE = "salary_zq", "quarter_zq", "once_zq", 424_242_424_242
NEIGHBOUR = "matrix2"  # Where those may do everything who have no right on NAME.

UNARY = ("GetFlightInfo", "PollFlightInfo", "GetSchema")
BOTH_WAYS = ("Handshake", "DoPut", "DoExchange")


class Access(enum.IntEnum):
    """A right that a call wants, or that a caller has on the dataset; each holds those before it."""

    OPEN = 0  # Wanted of nobody.
    CALLER = 1  # Wanted: to be somebody. Had: no right on the dataset.
    READ = 2
    WRITE = 3
    ADMIN = 4


@dataclass(frozen=True)
class Role:
    """A kind of caller.

    Attributes
    ----------
    name : str
    access : Access
        On the dataset of TENANT.
    role : str or None
        As the users file has it; None for who is in no file.
    rule : str or None
        What the policy allows on everything below the first segment of the dataset's name.
    tenant : str
    """

    name: str
    access: Access
    role: str | None = None
    rule: str | None = None
    tenant: str = TENANT

    @property
    def is_foreign(self) -> bool:
        """Whether the caller is of another tenant."""
        return self.tenant != TENANT


ROLES = {
    role.name: role
    for role in (
        Role("no_token", Access.OPEN),
        Role("bad_token", Access.OPEN),
        # May do everything, elsewhere.
        Role("foreign", Access.CALLER, "admin", "admin", FOREIGN_TENANT),
        Role("stranger", Access.CALLER, "admin"),
        Role("reader_by_role", Access.READ, "reader", "admin"),
        Role("reader_by_rule", Access.READ, "admin", "read"),
        Role("writer_by_role", Access.WRITE, "writer", "admin"),
        Role("writer_by_rule", Access.WRITE, "admin", "write"),
        Role("admin", Access.ADMIN, "admin", "admin"),
    )
}


@dataclass(frozen=True)
class Answer:
    """What a server answered, by either protocol.

    Attributes
    ----------
    code : str
        The name of a gRPC code; of an HTTP status the code that the contract gives for it.
    told : bytes
        All that the caller got: messages or body, error, headers but the date.
    parts : list of bytes
        The messages of a stream, or the body.
    """

    code: str
    told: bytes
    parts: tuple[bytes, ...] = ()


# Contract, sections 6 and 9. 400 stands for INVALID_ARGUMENT and UNIMPLEMENTED.
HTTP_CODES = {
    200: "OK",
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
}


class Refused(Exception):
    """A step of a call was not answered with OK."""

    def __init__(self, answer: Answer):
        super().__init__(answer)
        self.answer = answer


class Caller:
    """A caller with a connection of its own.

    Parameters
    ----------
    server : conftest.Server
    header : str or None
        The authorization header.
    """

    def __init__(self, server: conftest.Server, header: str | None):
        self.server, self.header = server, header
        self.raw = callers.raw_of(server.flight, header)

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.raw.channel.close()

    def flight(self, method: str, *messages: bytes) -> Answer:
        """Call a method of FlightService with messages as they are, and read the answer to its end."""
        channel, path, metadata = self.raw.channel, wire._SERVICE + method, self.raw.headers
        parts: list[bytes] = []
        headers: list[tuple[str, str | bytes]] = []
        code, details = "OK", ""
        try:
            if method in UNARY:
                part, call = channel.unary_unary(path).with_call(*messages, metadata=metadata)
                parts.append(part)
            else:
                both = method in BOTH_WAYS
                call = (
                    channel.stream_stream(path)(iter(messages), metadata=metadata)
                    if both
                    else channel.unary_stream(path)(*messages, metadata=metadata)
                )
                parts.extend(call)
            headers += [*(call.initial_metadata() or ()), *(call.trailing_metadata() or ())]
        except grpc.RpcError as error:
            code, details = error.code().name, error.details()
            headers += [*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())]
        others = [_bytes(value) for pair in headers if pair[0] != "date" for value in pair]
        told = b"\n".join([details.encode(), *parts, *others])
        return Answer(code, told, tuple(parts))

    def must(self, method: str, *messages: bytes) -> Answer:
        """Call a method as one step of several; what refuses it is the answer to them all."""
        answer = self.flight(method, *messages)
        if answer.code != "OK":
            raise Refused(answer)
        return answer

    def action(self, kind: str, body: bytes = b"") -> Answer:
        """Call DoAction."""
        return self.flight("DoAction", text(1, kind) + text(2, body or None))

    def ours(self, kind: str, name: str, **fields: object) -> Answer:
        """Do one of pandas-db's own actions."""
        return self.action(kind, json.dumps({"dataframe_name": name, **fields}).encode())

    def info(self, command: bytes) -> fs.Info:
        """Return the FlightInfo of a command, as one step of several."""
        return fs.read_info(self.must("GetFlightInfo", wire.command_descriptor(command)).parts[0])

    def prepare(self, sql: str) -> bytes:
        """Return the handle of a statement, as one step of several."""
        body = text(1, "CreatePreparedStatement") + text(
            2, fs.command("ActionCreatePreparedStatementRequest", text(1, sql))
        )
        (part,) = self.must("DoAction", body).parts
        return fs.unpacked(dict(wire.fields(part))[1], "ActionCreatePreparedStatementResult")[1]

    def fetch(self, command: bytes) -> Answer:
        """Get the info of a command and all of its rows."""
        info = self.info(command)
        answers = [self.must("DoGet", text(1, ticket)) for ticket in info.tickets]
        parts = (info.raw, *(part for answer in answers for part in answer.parts))
        return Answer("OK", b"\n".join(parts), parts)

    def http(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """Make a call of the REST API."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {key.replace("_", "-"): value for key, value in headers.items()}
        if self.header is not None:
            headers["Authorization"] = self.header
        request = urllib.request.Request(self.server.http + path, data=data, method=method, headers=headers)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        try:
            reply = urllib.request.urlopen(request, timeout=conftest.PATIENCE)
        except urllib.error.HTTPError as error:
            reply = error
        with reply:
            content = reply.read()
            del reply.headers["date"]
            code = HTTP_CODES.get(reply.status, str(reply.status))
            return Answer(code, content + b"\n" + str(reply.headers).encode(), (content,))


def attempt(call: Callable[..., Answer], *arguments: object) -> Answer:
    """Return the answer of a call; a step of it that is refused is its answer."""
    try:
        return call(*arguments)
    except Refused as refused:
        return refused.answer


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


@dataclass(frozen=True)
class Call:
    """One call on one dataset.

    Attributes
    ----------
    about : str
        What it is, for reports.
    access : Access
        The least right that it wants.
    run : callable
        Makes the call; takes the caller and the dataset's name.
    creates : bool
        It makes the dataset where there is none.
    lists : bool
        Its answer names the datasets that the caller may read.
    takes_absence : bool
        It is content when the dataset is not there.
    answers : tuple of str
        The codes for those who have the right.
    """

    about: str
    access: Access
    run: Callable[[Caller, str], Answer]
    creates: bool = False
    lists: bool = False
    takes_absence: bool = False
    answers: tuple[str, ...] = ("OK",)


def expected(role: Role, call: Call) -> tuple[str, ...]:
    """Return the codes that a call may be answered with, by contract 7 and 9.

    Parameters
    ----------
    role : Role
    call : Call
    """
    if call.access > Access.OPEN and role.access == Access.OPEN:
        return ("UNAUTHENTICATED",)
    if role.access >= call.access:
        return call.answers
    if role.is_foreign and call.creates:
        return ("OK",)  # In the own tenant there is none of that name yet.
    if role.access == Access.CALLER and not call.creates:
        # What may not be read is not there: for the caller as for one who asks for nothing.
        return ("OK",) if call.takes_absence else ("NOT_FOUND",)
    return ("PERMISSION_DENIED",)
