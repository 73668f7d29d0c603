"""What Flight and Flight SQL consist of, read from the descriptors that are compiled into ADBC's driver.

A message, a method or an action that a later release of the protocol brings is thereby known to the tests as soon as
the driver is.
"""

from __future__ import annotations

import functools
import mmap
from collections.abc import Iterator
from pathlib import Path

import adbc_driver_flightsql
import wire

# Fields of descriptor.proto: FileDescriptorProto, and the name that DescriptorProto and its kin begin with.
_FILE_NAME, _MESSAGE_TYPE, _SERVICE, _SYNTAX = 1, 4, 6, 12
_NAME, _METHOD = 1, 2
_LARGEST = 1 << 20  # Bytes of a descriptor.


def _file_fields(file: str) -> list[tuple[int, int | bytes]]:
    """Return the fields of a FileDescriptorProto; the driver's last field of each is the syntax."""
    start = wire.text(_FILE_NAME, file)
    with Path(adbc_driver_flightsql._driver_path()).open("rb") as driver:
        with mmap.mmap(driver.fileno(), 0, access=mmap.ACCESS_READ) as content:
            at = content.find(start)
            while at >= 0:
                found = list(_until_syntax(content[at : at + _LARGEST]))
                if found:
                    return found
                at = content.find(start, at + 1)
    raise LookupError(f"{adbc_driver_flightsql._driver_path()} holds no descriptor of {file}")


def _until_syntax(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    taken = []
    try:
        for number, value in wire.fields(message):
            taken.append((number, value))
            if number == _SYNTAX:
                yield from taken
                return
    except (ValueError, IndexError):
        return


def _name(message: bytes) -> str:
    return dict(wire.fields(message))[_NAME].decode()


@functools.cache
def flight_methods() -> tuple[str, ...]:
    """Return the methods of FlightService."""
    (service,) = [value for number, value in _file_fields("Flight.proto") if number == _SERVICE]
    return tuple(_name(value) for number, value in wire.fields(service) if number == _METHOD)


@functools.cache
def sql_messages() -> tuple[str, ...]:
    """Return the names of Flight SQL's messages."""
    return tuple(_name(value) for number, value in _file_fields("FlightSql.proto") if number == _MESSAGE_TYPE)


def sql_commands() -> tuple[str, ...]:
    """Return Flight SQL's messages that stand in a descriptor or a ticket."""
    return tuple(name for name in sql_messages() if name.startswith(("Command", "Ticket")))


def sql_action_requests() -> tuple[str, ...]:
    """Return Flight SQL's messages that are bodies of actions."""
    return tuple(name for name in sql_messages() if name.startswith("Action") and name.endswith("Request"))


@functools.cache
def plain_action_requests() -> tuple[str, ...]:
    """Return Flight's own messages that are bodies of actions."""
    names = (_name(value) for number, value in _file_fields("Flight.proto") if number == _MESSAGE_TYPE)
    return tuple(name for name in names if name.endswith("Request") and name != "HandshakeRequest")
