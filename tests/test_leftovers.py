"""A run of the tests that is ended from outside leaves no process and no folder behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

from tests.support.reaper import marked

ROOT = Path(__file__).parent.parent
END_SECONDS = 60
RUN = """
import json, signal
from pathlib import Path
from tests.support.reaper import reaper
from tests.support.servers import serving

def test_that_is_ended(database_of):
    with serving(database_of("postgres")) as server:
        database_of("sqlite")
        left = {"mark": reaper().mark, "server": server.process.pid, "folders": [*map(str, reaper().folders)]}
        written = Path(__file__).with_name("written")
        written.write_text(json.dumps(left))
        written.rename(written.with_name("left"))
        signal.pause()
"""


def test_run_that_is_ended_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "test_run.py").write_text(RUN)
    words = ["-q", "-p", "tests.conftest", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", f"{tmp_path}/test_run.py"]
    environment = {name: value for name, value in os.environ.items() if name != "TEST_DATABASE_URL"}
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", *words], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    while not (tmp_path / "left").exists():
        assert run.poll() is None, run.communicate()[0]
        sleep(0.05)
    left = json.loads((tmp_path / "left").read_text())
    processes, folders = marked(left["mark"]), [Path(folder) for folder in left["folders"]]
    assert left["server"] in processes
    assert any(Path(f"/proc/{process}/comm").read_text() == "postgres\n" for process in processes)
    assert len(folders) == 2
    assert all(folder.exists() for folder in folders)

    run.send_signal(signal.SIGTERM)
    run.communicate()

    until = monotonic() + END_SECONDS
    while (processes := marked(left["mark"])) or any(folder.exists() for folder in folders):
        assert monotonic() < until, (processes, folders)
        sleep(0.05)
