"""A store that another user owns, and locks of processes that live, or died (P27)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.anchorset_files import read_file_states
from support.anchorset_sets import build, pairs
from support.running import environment, open_to_all

from asif.anchorset import Store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="users and signals as Unix has them")

STRANGER = """
import json, os, sys
from pathlib import Path
import filelock, numpy.ma, pyarrow.dataset
from support.anchorset_sets import build, pairs
from asif.anchorset import Store
from asif.errors import AsifError
store = Store(Path(sys.argv[1]))
if os.geteuid() == 0:
    os.setuid(65534)
said = {"written": os.access(store.root, os.W_OK)}
with store.open("toy") as opened:
    opened.records(range(opened.count))
    said["kept"] = opened.cache_fit({"name": "x", "parameters": {}}, {})
said["problems"] = list(map(str, store.verify("toy").problems))
said["log"] = len(store.log("toy"))
said["errors"] = [entry.error for entry in store.sets()]
ids = [pairs(1)[0].id]
for name, edit in {
    "remove": lambda: store.remove("toy", ids),
    "purge": lambda: store.purge("toy", ids),
    "compact": lambda: store.compact("toy"),
    "gc": lambda: store.gc("toy", 1),
    "alias": lambda: store.alias("toy", "best", "1"),
    "rollback": lambda: store.rollback("toy"),
    "tune": lambda: store.publish_profile("toy", "classify", {}, "0"),
    "build": lambda: build(store.root, pairs(5)),
    "another": lambda: build(store.root, pairs(5), name="new"),
}.items():
    try:
        edit()
        said[name] = "done"
    except AsifError as error:
        said[name] = [error.exit_code, error.came.split(" ")[:2], error.fix]
print(json.dumps(said))
"""
HOLDER = """
import sys, time
from pathlib import Path
from asif.anchorset.format.folder import SetFolder
with SetFolder(Path(sys.argv[1]) / "anchors" / "toy", "toy").locked():
    print("locked", flush=True)
    time.sleep(60)
"""


def start(script: str, home: Path) -> subprocess.Popen[str]:
    run = [sys.executable, "-W", "error", "-c", script, str(home)]
    return subprocess.Popen(run, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def toy(home: Path) -> Path:
    for count in (6, 9):
        build(home, pairs(count)).close()
    return home


def test_a_store_of_another_user_is_read_and_never_changed(toy: Path, tmp_path: Path) -> None:
    open_to_all(tmp_path)
    for path in [toy, *toy.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = read_file_states(toy)
    out, err = (process := start(STRANGER, toy)).communicate()
    for path in [toy, *toy.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert process.returncode == 0, err
    said: dict[str, Any] = json.loads(out)
    read = {name: said.pop(name) for name in ("written", "kept", "problems", "log", "errors")}
    assert read == {"written": False, "kept": False, "problems": [], "log": 2, "errors": [None]}
    refused = [1, ["cannot", "write"], "point ASIF_HOME at a folder of yours, or ask its owner"]
    assert said == dict.fromkeys(said, refused)
    assert read_file_states(toy) == before


@pytest.mark.slow
def test_readers_do_not_wait_for_an_edit_and_edits_not_for_the_dead(toy: Path) -> None:
    holder = start(HOLDER, toy)
    assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
    with Store(toy).open("toy") as opened:
        assert len(opened.records(range(9))) == 9
    assert Store(toy).verify("toy").problems == ()
    assert len(Store(toy).log("toy")) == 2
    editor = start("import sys; from pathlib import Path; from asif.anchorset import Store\n"
                   "Store(Path(sys.argv[1])).rollback('toy')", toy)  # fmt: skip
    with pytest.raises(subprocess.TimeoutExpired):
        editor.wait(1.5)  # it waits
    holder.send_signal(signal.SIGKILL)
    assert holder.communicate()[0] == "" and holder.returncode == -signal.SIGKILL
    assert editor.communicate(timeout=30) == ("", "")
    assert Store(toy).open("toy").count == 6
