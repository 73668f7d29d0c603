"""What can go wrong, as exceptions: one class for each code that a server answers with."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.flight as flight


class PandasDBError(Exception):
    """An error that a server answered with, or that kept its answer away.

    Parameters
    ----------
    message : str
        What went wrong, where, and what to do about it.
    from_server : bool
        False when no server said so: the connection failed.

    Attributes
    ----------
    code : str
        The name of the gRPC code, for example ``NOT_FOUND``. ``str(error)`` begins with it, in brackets.
    message : str
        The message without the code.
    """

    code = "UNKNOWN"

    def __init__(self, message: str, *, from_server: bool = True) -> None:
        super().__init__(f"[{self.code}] {message}")
        self.message = message
        self.from_server = from_server


class InvalidArgumentError(PandasDBError, ValueError):
    """The request is wrong and stays wrong: change it."""

    code = "INVALID_ARGUMENT"


class UnauthenticatedError(PandasDBError):
    """The token is missing, wrong or expired."""

    code = "UNAUTHENTICATED"


class PermissionDeniedError(PandasDBError):
    """The user of the token may not do this."""

    code = "PERMISSION_DENIED"


class NotFoundError(PandasDBError, LookupError):
    """There is no such dataset, version or key, or the user may not see it."""

    code = "NOT_FOUND"


class AlreadyExistsError(PandasDBError):
    """What was to be made is there already."""

    code = "ALREADY_EXISTS"


class AbortedError(PandasDBError):
    """Another writer was first, more often than the retries lasted."""

    code = "ABORTED"


class ResourceExhaustedError(PandasDBError):
    """A limit of the server was reached."""

    code = "RESOURCE_EXHAUSTED"


class DeadlineExceededError(PandasDBError, TimeoutError):
    """It took longer than allowed."""

    code = "DEADLINE_EXCEEDED"


class CancelledError(PandasDBError):
    """The call was ended before its answer."""

    code = "CANCELLED"


class UnavailableError(PandasDBError, ConnectionError):
    """The server cannot be reached, or its storage cannot."""

    code = "UNAVAILABLE"


class UnimplementedError(PandasDBError, NotImplementedError):
    """The server, or the REST API, cannot do that."""

    code = "UNIMPLEMENTED"


class DataLossError(PandasDBError):
    """Stored data is damaged: an operator must look."""

    code = "DATA_LOSS"


class InternalError(PandasDBError):
    """A defect of the server."""

    code = "INTERNAL"


BY_CODE: dict[str, type[PandasDBError]] = {
    each.code: each
    for each in (
        InvalidArgumentError,
        UnauthenticatedError,
        PermissionDeniedError,
        NotFoundError,
        AlreadyExistsError,
        AbortedError,
        ResourceExhaustedError,
        DeadlineExceededError,
        CancelledError,
        UnavailableError,
        UnimplementedError,
        DataLossError,
        InternalError,
    )
}

_CODE = re.compile(r"\[([A-Z_]+)\] ")
# What pyarrow puts before and behind a server's message.
_BEFORE = re.compile(r"^.*?with message: ", re.DOTALL)
_BEHIND = re.compile(r"\. (?:gRPC client debug context|Client context|Detail): .*$", re.DOTALL)
_BY_TRANSPORT = (
    (flight.FlightUnavailableError, UnavailableError),
    (flight.FlightTimedOutError, DeadlineExceededError),
    (flight.FlightCancelledError, CancelledError),
    (flight.FlightUnauthenticatedError, UnauthenticatedError),
    (flight.FlightUnauthorizedError, PermissionDeniedError),
    (NotImplementedError, UnimplementedError),
    (OSError, UnavailableError),
    (flight.FlightInternalError, InternalError),
)

FLIGHT_ERRORS = (pa.ArrowException, flight.FlightError, OSError)
"""What pyarrow.flight raises."""


def from_message(message: str) -> PandasDBError | None:
    """Return the error that a message of a server tells of, by the code in brackets that it begins with."""
    code = _CODE.match(message)
    return BY_CODE.get(code[1], PandasDBError)(message[code.end() :]) if code else None


def from_flight(error: BaseException) -> PandasDBError:
    """Return a pyarrow.flight error as one of ours, without what the gRPC library adds to the server's message."""
    text = str(error.args[0]) if error.args else str(error)
    code = _CODE.search(text)
    cut = _BEHIND.sub("", text)
    if code and code.start() < len(cut):
        told = from_message(cut[code.start() :])
        if told:
            return told
    message = _BEFORE.sub("", cut)
    for kind, ours in _BY_TRANSPORT:
        if isinstance(error, kind):
            return ours(message, from_server=False)
    return PandasDBError(message, from_server=False)
