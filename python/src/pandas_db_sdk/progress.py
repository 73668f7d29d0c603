"""Progress bars of long loads and reads."""

from __future__ import annotations

import sys
import threading

from tqdm import tqdm


class Progress:
    """A bar of rows; nothing is shown when it is off.

    Parameters
    ----------
    shown : bool or None
        None shows it when stderr is a terminal.
    what : str
        What stands before the bar.
    total : int or None
        Rows to come; None when nobody knows.
    """

    def __init__(self, shown: bool | None, what: str, total: int | None) -> None:
        if shown is None:
            shown = sys.stderr is not None and sys.stderr.isatty()
        self._bar = tqdm(desc=what, total=total, unit="row", unit_scale=True, file=sys.stderr) if shown else None
        self._lock = threading.Lock()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    @property
    def shown(self) -> bool:
        """Whether there is a bar."""
        return self._bar is not None

    def add(self, rows: int) -> None:
        """Count rows that were sent or that came."""
        if self._bar is not None:
            with self._lock:
                self._bar.update(rows)

    def restart(self) -> None:
        """Begin again, because a failed attempt is repeated."""
        if self._bar is not None:
            self._bar.reset()
