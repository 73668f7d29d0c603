"""Progress bars: where they show, and that they tell the rows."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pandas as pd
import pytest

FRAME = pd.DataFrame({"x": range(1_000)})


def test_bars_show_when_asked_for(client, name, capfd):
    client.load_dataframe(FRAME, name, progress=True)
    loaded = capfd.readouterr().err
    assert f"load {name}" in loaded
    assert "1.00k/1.00k" in loaded
    client.get_dataframe(name, progress=True)
    read = capfd.readouterr().err
    assert f"get {name}" in read
    assert "1.00k/1.00k" in read
    list(client.iter_dataframe(name, progress=True))
    assert "1.00k/1.00k" in capfd.readouterr().err


@pytest.mark.parametrize("progress", [None, False])
def test_nothing_shows_where_stderr_is_no_terminal(client, name, capfd, progress):
    client.load_dataframe(FRAME, name, progress=progress)
    client.get_dataframe(name, progress=progress)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("progress", "shown"), [(None, True), (False, False)])
def test_bars_show_on_a_terminal(server, name, progress, shown):
    code = (
        "import pandas as pd\n"
        "from pandas_db_sdk import DataFrameClient\n"
        f"with DataFrameClient({server.flight!r}) as client:\n"
        f"    client.load_dataframe(pd.DataFrame({{'x': range(1000)}}), {name!r}, progress={progress})\n"
        f"    client.get_dataframe({name!r}, progress={progress})\n"
    )
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
    with subprocess.Popen([sys.executable, "-c", code], stderr=theirs) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 65_536)
            except OSError:  # Linux ends a pseudo-terminal this way.
                break
            if not part:
                break
            written += part
    os.close(ours)
    assert process.returncode == 0, written.decode()
    assert (f"load {name}".encode() in written) is shown
    assert (f"get {name}".encode() in written) is shown
