"""What is forked of a server is what would be spawned; where it would not be, it is spawned."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xlatrain.xla import fork_server

ROOT = Path(__file__).parents[2]
# A process as users start it: the server of the tests is no part of it.
LAUNCHES = """
import json, os, sys
from xlatrain.xla import fork_server
from xlatrain.xla.launch import launch

def tell(replica):
    import signal
    import torch
    with open("/proc/self/cmdline", "rb") as file:
        forked = b"forkserver" in file.read()
    signals = [signal.getsignal(n) is h for n, h in ((2, signal.default_int_handler), (15, signal.SIG_DFL))]
    from torch_xla._dynamo.dynamo_bridge import XLAConstructorMoverPass
    whole = type(XLAConstructorMoverPass()).__mro__[1].__module__
    flags = "xla_cpu_enable_fast_math" in os.environ["XLA_FLAGS"]
    return {"forked": forked, "replicas": replica.world_size, "mark": os.environ.get("MARK"), "signals": signals,
            "flags": flags, "whole": whole, "threads": torch.get_num_threads(), "pjrt": os.environ["PJRT_DEVICE"]}

def where():
    import torch
    return "torch" in sys.modules, os.environ.get("MARK")

def wrong():
    raise KeyError("of the call")

if __name__ == "__main__":
    fork_server.prepare("xlatrain.engine.ahead")
    found = [launch("__mp_main__:tell", replicas=n) for n in (2, 3)]
    try:
        fork_server.call(wrong, told=KeyError)
    except KeyError as error:
        said = str(error)
    called = fork_server.call(where, told=KeyError)
    imported = [name for name in ("torch", "torch_xla", "timm") if name in sys.modules]
    os.environ["MARK"] = "of another environment"
    found.append(launch("__mp_main__:tell", replicas=2))
    print(json.dumps({"found": found, "called": called, "said": said, "imported": imported}))
"""

LIGHT = """
from xlatrain.xla.fork_server import import_ahead, serve_only_children
serve_only_children()
import_ahead("csv", "nothing_of_this_name")
"""
ASKS = """
import json, multiprocessing, os, signal, sys
from xlatrain.xla import fork_server

def who():
    return os.getppid(), "csv" in sys.modules, os.environ.get("PJRT_DEVICE")

def wrong():
    raise KeyError(os.getpid())

def caught(told):
    try:
        fork_server.call(wrong, told=told)
    except KeyError as error:
        return error.args[0] == os.getpid()

if __name__ == "__main__":
    fork_server.prepare("light")
    server = fork_server._server_pid()
    found = {"asked": fork_server.call(who, told=KeyError) == (server, True, None)}
    found["told is raised here, all else made again"] = [caught(KeyError), caught(OSError)]
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(server, number)
    found["deaf"] = fork_server.call(who, told=KeyError)[0] == server
    os.environ["MARK"] = "another"
    fit = [fork_server.is_fit()]
    del os.environ["MARK"]
    kept = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    fit.append(fork_server.is_fit())
    os.dup2(kept, 1)
    fit.append(fork_server.is_fit())
    os.kill(server, signal.SIGKILL)
    os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)
    fit.append(fork_server.is_fit())
    process = multiprocessing.get_context("forkserver").Process(target=who)  # begins another server
    process.start()
    process.join()
    fit.append(fork_server.is_fit())
    print(json.dumps({**found, "fit": fit, "then": fork_server.call(os.getpid, told=KeyError)}))
"""


@pytest.mark.slow
def test_the_server_and_what_it_does_not_fit(tmp_path):
    """It hears no signals, forks what is asked for, and is left alone where environment or output are others, or where
    it has died."""
    (tmp_path / "asks.py").write_text(ASKS)
    (tmp_path / "light.py").write_text(LIGHT)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "TMPDIR": str(tmp_path)}
    environment.pop("PJRT_DEVICE", None)
    process = subprocess.Popen(
        [sys.executable, "asks.py"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    told = json.loads(process.communicate(timeout=60)[0])
    assert told == {
        "asked": True,
        "told is raised here, all else made again": [False, True],
        "deaf": True,
        "fit": [False, False, True, False, False],
        "then": process.pid,
    }


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """What three launches of a program told: two as the server was begun, one with another variable."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "launches.py").write_text(LAUNCHES)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    command = [sys.executable, "launches.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), folder, done.stderr


@pytest.mark.replicas
@pytest.mark.slow
def test_processes_are_forked_as_they_would_be_spawned(launched):
    told, _, _ = launched
    first, second, third = told["found"]
    assert [part["forked"] for part in (first, second, third)] == [True, True, False]
    assert [part["replicas"] for part in (first, second, third)] == [2, 3, 2]
    assert third["mark"] == "of another environment"
    assert all(part | {"forked": 0, "replicas": 0, "mark": 0} == first | {"forked": 0, "replicas": 0, "mark": 0}
               for part in (second, third))  # fmt: skip
    assert first["signals"] == [True, True]
    assert first["flags"]
    assert first["whole"] == "torch._inductor.fx_passes.post_grad"  # though it was not imported ahead


@pytest.mark.replicas
@pytest.mark.slow
def test_what_asks_imports_nothing_and_leaves_nothing_behind(launched):
    told, folder, errors = launched
    assert told["called"] == [True, None]
    assert told["said"] == "'of the call'"
    assert told["imported"] == []
    assert [path.name for path in folder.iterdir()] == ["launches.py"]
    assert "PJRT_DEVICE" not in errors
    for process in Path("/proc").glob("[0-9]*"):
        try:
            where = os.readlink(process / "cwd")
        except OSError:
            continue
        assert where != str(folder)


def test_without_a_server_nothing_is_forked_and_a_call_is_made_here():
    assert not fork_server.is_fit()
    assert fork_server.call(os.getpid, told=OSError) == os.getpid()


@pytest.mark.slow
def test_a_wrong_option_is_told_without_torch(tmp_path):
    program = (
        "import sys; from xlatrain.cli.main import main; code = main(['train', 'train.globl_batch=64']); "
        "print(code, [name for name in ('torch', 'timm', 'sympy', 'webdataset') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert "did you mean train.global_batch?" in done.stderr
    assert done.stdout == "2 []\n"
    assert not list(tmp_path.iterdir())
