"""Which failures a second try can mend, and how long to wait before it."""

from __future__ import annotations

import random
import re
import time
from dataclasses import dataclass
from typing import Callable, TypeVar

from .errors import AbortedError, InternalError, PandasDBError, ResourceExhaustedError, UnavailableError

Result = TypeVar("Result")

FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 5.0
# A server says by these words that a limit will pass; at any other the request itself is too large.
_PASSES = re.compile(r"\b(retry|later|slow down|too many (?:calls|requests|connections))\b", re.IGNORECASE)


def is_worth_a_retry(error: PandasDBError) -> bool:
    """Return whether the same call can succeed later, without anything being changed."""
    if isinstance(error, (UnavailableError, AbortedError)):
        return True
    if isinstance(error, ResourceExhaustedError):
        return error.from_server and bool(_PASSES.search(error.message))
    # A connection that breaks in the middle of a call is not always called unavailable.
    return not error.from_server and (isinstance(error, InternalError) or type(error) is PandasDBError)


def was_not_done(error: PandasDBError) -> bool:
    """Return whether a failed call surely changed nothing, so that one that must not be done twice can be repeated."""
    return isinstance(error, AbortedError) or (
        isinstance(error, UnavailableError) and not error.from_server and "failed to connect" in error.message.lower()
    )


@dataclass(frozen=True)
class Retries:
    """How often a call is repeated.

    Parameters
    ----------
    attempts : int
        The most times that a call is made, the first included.
    wait : callable, optional
        What waits so many seconds.
    """

    attempts: int
    wait: Callable[[float], None] = time.sleep

    def run(self, call: Callable[[], Result], worth_it: Callable[[PandasDBError], bool] = is_worth_a_retry) -> Result:
        """Make a call, and make it again after failures that are worth it.

        Raises
        ------
        PandasDBError
            The last failure.
        """
        for attempt in range(1, self.attempts):
            try:
                return call()
            except PandasDBError as error:
                if not worth_it(error):
                    raise
            self.wait(back_off(attempt))
        return call()


def back_off(attempt: int) -> float:
    """Return the seconds to wait after a failed attempt: twice as long each time, and a random half of it."""
    most: float = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (attempt - 1))
    return random.uniform(most / 2, most)
