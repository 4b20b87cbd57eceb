"""Who asks a run to stop is heard, once, by whichever process; what has not begun is told from what has."""

import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.waiting import wait_for
from xlatrain.xla import heartbeat, notices, stacks, stop
from xlatrain.xla.heartbeat import STEP, Whereabouts
from xlatrain.xla.parent_signals import parent_signals


def test_the_first_to_ask_is_remembered(tmp_path):
    assert stop.asked(tmp_path) is None
    stop.ask(tmp_path, "SIGTERM")
    stop.ask(tmp_path, "SIGINT")
    assert stop.asked(tmp_path) == "SIGTERM"
    stop.ask(tmp_path / "gone", "SIGINT")  # the run has ended


@pytest.mark.parametrize("first", ["replica", "parent"])
def test_either_a_step_is_taken_or_the_parent_ends_the_run_before_it(tmp_path, first):
    order = [stop.begin, stop.prevent] if first == "replica" else [stop.prevent, stop.begin]
    assert [act(tmp_path) for act in order] == [True, False]
    assert order[0](tmp_path)  # another process


def test_a_child_takes_a_signal_for_a_request(tmp_path):
    before = {number: signal.getsignal(number) for number in stop.SIGNALS}
    try:
        stop.hear_signals(tmp_path)
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(lambda: stop.asked(tmp_path))
        assert stop.asked(tmp_path) == "SIGTERM"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("stoppable", [True, False])
def test_the_first_signal_asks_where_that_can_be_and_the_next_one_ends(tmp_path, stoppable):
    with parent_signals(tmp_path, stoppable) as signals:
        os.kill(os.getpid(), signal.SIGINT)
        wait_for(lambda: signals.fatal or stop.asked(tmp_path))
        assert (signals.fatal, stop.asked(tmp_path)) == ((0, "SIGINT") if stoppable else (signal.SIGINT, None))
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(lambda: signals.killing)
        assert signals.fatal == (signal.SIGTERM if stoppable else signal.SIGINT)


@pytest.fixture
def server(monkeypatch):
    """A stand-in for the metadata server: what it says of each key; those that it lacks it does not know."""

    class Handler(BaseHTTPRequestHandler):
        flavor, says, asked = "Google", {"preempted": "FALSE", "maintenance-event": "NONE"}, []

        def do_GET(self):
            key = self.path.removeprefix("/computeMetadata/v1/instance/").partition("?")[0]
            type(self).asked.append(key)
            known = key in self.says and self.headers["Metadata-Flavor"] == "Google"
            self.send_response(200 if known else 404)
            self.send_header("Metadata-Flavor", self.flavor)
            self.end_headers()
            self.wfile.write(self.says.get(key, "").encode())

        def log_message(self, *_):
            pass

    Handler.says, Handler.asked = dict(Handler.says), []
    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.server_port}")
    monkeypatch.delenv("NO_GCE_CHECK", raising=False)
    yield Handler
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("preempted", "TRUE", "a notice of preemption"),
        ("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE", "a notice of maintenance"),
        ("upcoming-maintenance", '{"maintenance_status": "ONGOING", "type": "SCHEDULED"}', "a notice of maintenance"),
        ("upcoming-maintenance", '{"maintenanceStatus": "ONGOING"}', "a notice of maintenance"),
    ],
)
def test_a_notice_of_the_metadata_server_is_told_once(server, key, value, said):
    told = []
    with notices.polled(told.append, every=0.01) as thread:
        wait_for(lambda: len(server.asked) > 5)
        assert told == []
        server.says[key] = value
        wait_for(lambda: told)
        thread.join(10)
    assert told == [said]


def test_a_machine_that_is_moved_while_it_runs_goes_on_and_a_key_may_lack(server):
    del server.says["preempted"]
    server.says["maintenance-event"] = "MIGRATE_ON_HOST_MAINTENANCE"
    server.says["upcoming-maintenance"] = '{"maintenance_status": "PENDING", "type": "SCHEDULED"}'  # days ahead
    told = []
    with notices.polled(told.append, every=0.01) as thread:
        wait_for(lambda: len(server.asked) > 5)
    thread.join(10)
    assert told == []


@pytest.mark.parametrize("why", ["nobody", "another", "off"])
def test_where_there_is_no_such_server_nobody_is_asked_again(server, monkeypatch, why):
    if why == "nobody":
        monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:1")
    elif why == "another":
        server.flavor = "Somebody"
    else:
        monkeypatch.setenv("NO_GCE_CHECK", "true")
    with notices.polled(print, every=0.01) as thread:
        thread.join(10)
        assert not thread.is_alive()
    assert len(server.asked) == (1 if why == "another" else 0)


HANGING = """
import sys, threading
from pathlib import Path
from xlatrain.xla import stacks
def hangs_here():
    print(threading.get_ident(), flush=True)
    threading.Event().wait()
stacks.ready(Path(sys.argv[1]))
hangs_here()
"""


def test_the_stacks_of_a_process_that_hangs_name_its_replicas_and_one_that_is_stopped_has_none(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HANGING, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        thread = int(process.stdout.readline())
        beats = [heartbeat.Heartbeat("here", process.pid, 0.0, {3: Whereabouts(STEP, 4, thread=thread)})]
        said = stacks.gather(tmp_path, beats)
        assert f"stacks of process {process.pid}" in said
        assert "of replica 3" in said
        assert "hangs_here" in said
        (tmp_path / f"stacks-{process.pid}").write_text("")
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: heartbeat.process_state(process.pid) == "T")
        assert stacks.gather(tmp_path, beats) == f"no stacks of process {process.pid}: it is stopped\n"
        process.kill()
