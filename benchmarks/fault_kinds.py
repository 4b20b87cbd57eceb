"""The faults that benchmarks/faults.py makes: each disturbs a run that is going on, or what it left, and sees that the
run ends as it should, in time. The run is gone on with, and judged, by faults.py."""

from __future__ import annotations

import contextlib
import os
import signal
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass

from fault_judge import checkpoints, damage, newest_sound, summary
from fault_run import EVALUATE, EVERY, STEPS, Start, WrongError
from fault_scene import AT_ONCE, CONFIG, FAILED, FAILS, HANGS, STOPPED, STOPS, WHOLE, Scene, turn_clock


def kill_parent(scene: Scene, saving: bool = False) -> None:
    start = scene.begin()
    if not saving and scene.draw.random() < 0.25:
        scene.early(start)
    else:
        scene.moment(start, saving=saving)
    scene.at_once = scene.draw.random() < 0.5
    scene.kill(start.pid)
    scene.ends(start, FAILS, (-signal.SIGKILL,))


def kill_again(scene: Scene) -> None:
    """Killed in a step, then as it goes on: as it looks for its checkpoint, cuts its metrics, builds, compiles."""
    kill_parent(scene)
    again = scene.begin()
    time.sleep(scene.draw.random() * (3.0 if scene.place.warm else 10.0))
    scene.said.append("and as it went on")
    scene.kill(again.pid)
    scene.ends(again, FAILS, (-signal.SIGKILL,))


def kill_replicas(scene: Scene, saving: bool = False) -> None:
    start = scene.begin()
    scene.moment(start, saving=saving)
    if pids := scene.place.replicas():
        scene.kill(scene.draw.choice(pids))
    scene.ends(start, FAILS, (FAILED,), "process")


def kill_worker(scene: Scene, saving: bool = False) -> None:
    start = scene.begin()
    scene.moment(start, saving=saving)
    if pids := scene.place.loaders():
        scene.kill(scene.draw.choice(sorted(pids)))
    scene.ends(start, FAILS, (FAILED,), "data worker")


def kill_everything(scene: Scene) -> None:
    start = scene.begin()
    scene.moment(start, saving=scene.draw.random() < 0.5)
    pids = list(scene.place.processes())
    scene.draw.shuffle(pids)
    for pid in pids:
        scene.kill(pid)
    scene.ends(start, FAILS, (-signal.SIGKILL,))


def stop(scene: Scene, early: bool = False, saving: bool = False) -> None:
    start = scene.begin()
    scene.early(start) if early else scene.moment(start, saving=saving)
    number = scene.draw.choice([signal.SIGTERM, signal.SIGINT])
    scene.said.append(number.name)
    scene.kill(start.pid, number)
    gone = (-number, 128 + number) if early else ()  # Python's own way to end, before anything was begun
    scene.ends(start, STOPS, (STOPPED, *gone))


def stop_evaluating(scene: Scene) -> None:
    """In the first evaluation, which compiles its step, or in the second."""
    start, number = scene.begin(), scene.draw.randint(1, 2)
    step = number * EVALUATE
    until = time.monotonic() + WHOLE
    while scene.place.steps_logged() < step and start.poll() is None and time.monotonic() < until:
        time.sleep(0.0005)
    time.sleep(scene.draw.random() * (0.5 if number == 1 else 0.05))
    scene.kill(start.pid, signal.SIGTERM)
    evaluated = (scene.place.run / "metrics.jsonl").read_bytes().count(b'{"kind": "eval"') >= number
    scene.said.append(f"after step {step}, {'evaluated' if evaluated else 'evaluating'}")
    scene.ends(start, STOPS, (STOPPED,))


def signal_twice(scene: Scene) -> None:
    start = scene.begin()
    scene.moment(start, saving=scene.draw.random() < 0.3)
    pair = scene.draw.choice([(signal.SIGTERM,) * 2, (signal.SIGINT, signal.SIGTERM), (signal.SIGINT,) * 2])
    scene.said.append(" and ".join(number.name for number in pair))
    scene.kill(start.pid, pair[0])
    time.sleep(scene.draw.random() * 0.2)
    scene.kill(start.pid, pair[1])
    scene.ends(start, AT_ONCE, (STOPPED, 128 + pair[1]))


def fail(scene: Scene) -> None:
    step, replica = scene.draw.randrange(1, STEPS), scene.draw.randrange(2)
    scene.said.append(f"replica {replica} before step {step}")
    start = scene.begin(f"engine.fail_replica={replica}", f"engine.fail_step={step}")
    _wait_for_step(scene, start, step)
    scene.ends(start, FAILS, (FAILED,), "rehearsed failure")


def hang(scene: Scene) -> None:
    step, replica = scene.draw.randrange(1, STEPS), scene.draw.randrange(2)
    scene.said.append(f"replica {replica} before step {step}")
    more = [f"engine.fail_replica={replica}", f"engine.fail_step={step}", "engine.fail_how=hang"]
    start = scene.begin(*more, f"engine.stall_after={HANGS:g}")
    _wait_for_step(scene, start, step)
    scene.ends(start, HANGS + FAILS, (FAILED,), "is behind")


def _wait_for_step(scene: Scene, start: Start, step: int) -> None:
    """Wait until the last step before it is logged; the replica that fails may be a moment earlier."""
    until = time.monotonic() + WHOLE
    while scene.place.steps_logged() < step and start.poll() is None and time.monotonic() < until:
        time.sleep(0.01)


def freeze_replicas(scene: Scene) -> None:
    start = scene.begin(f"engine.stall_after={HANGS:g}")
    scene.early(start) if scene.draw.random() < 0.25 else scene.moment(start)
    if pids := scene.place.replicas():
        scene.kill(scene.draw.choice(pids), signal.SIGSTOP)
    else:
        scene.said.append("nobody was there")
        start.wait(WHOLE)
    scene.ends(start, HANGS + FAILS, (FAILED,), "the run hangs")


def freeze_worker(scene: Scene) -> None:
    start = scene.begin(f"engine.stall_after={HANGS:g}")
    scene.moment(start)
    if pids := scene.place.loaders():
        scene.kill(scene.draw.choice(sorted(pids)), signal.SIGSTOP)
    scene.ends(start, HANGS + FAILS, (FAILED,), "the run hangs")


def freeze_parent(scene: Scene) -> None:
    start = scene.begin()
    scene.moment(start)
    scene.kill(start.pid, signal.SIGSTOP)
    time.sleep(scene.draw.random() * 4)
    scene.kill(start.pid, signal.SIGCONT)
    scene.ends(start, WHOLE, ())


def corrupt_image(scene: Scene) -> None:
    shard = scene.draw.choice(sorted((scene.place.data / "train").glob("*.tar")))
    before = shard.read_bytes()
    with tarfile.open(shard) as archive:
        member = scene.draw.choice([m for m in archive if m.name.endswith(".png")])
    start = scene.begin()
    scene.moment(start)
    with shard.open("r+b") as file:
        file.seek(member.offset_data + 20)
        file.write(b"\0" * 30)
    scene.said.append(member.name)
    code = scene.ends(start, WHOLE, (FAILED,), member.name.removesuffix(".png"))
    if not code:
        scene.said.append("read no more")
    shard.write_bytes(before)


def damage_checkpoints(scene: Scene, file: str) -> None:
    """Of a run that was killed or stopped: any of its checkpoints, the newest before others."""
    start = scene.begin()
    scene.moment(start, least=EVERY + 2)
    scene.kill(start.pid, scene.draw.choice([signal.SIGKILL, signal.SIGTERM]))
    scene.ends(start, STOPS, (-signal.SIGKILL, STOPPED))
    standing = checkpoints(scene.place.checkpoints)
    before = {path: path.read_bytes() for folder in standing.values() for path in folder.iterdir()}
    steps = sorted(standing, reverse=True)[: scene.draw.randint(1, len(standing)) if standing else 0]
    for step in steps:
        path = standing[step] / file
        scene.said.append(f"{step}: {damage(path, scene.draw)}")
    if standing and newest_sound(scene.place, scene.whole) is None and summary(scene.place).get("status") != "done":
        refused(scene, "none is sound")
        for path, content in before.items():  # a copy is put back, as the message says
            if path.parent == standing[steps[-1]]:
                path.write_bytes(content)


def refused(scene: Scene, words: str) -> None:
    """See that a start is refused with these words."""
    start = scene.begin()
    if (code := start.wait(WHOLE)) != CONFIG:
        raise WrongError(f"exit code {code} of a start that should be refused")
    if words not in start.said() or "Traceback" in start.said():
        raise WrongError(f"a refused start does not say {words!r} and no more")
    scene.said.append("refused")


def fill_disk(scene: Scene, all_of_it: bool) -> None:
    """A small disk, which somebody fills; after a while there is room again."""
    where = scene.place.cwd / "runs" if all_of_it else scene.place.folder / "disk"
    if not all_of_it:
        scene.place.more.append(f"checkpoint.folder={where}")
    scene.place.mount(where, "64m")
    start = scene.begin()
    scene.early(start) if scene.draw.random() < 0.2 else scene.moment(start)
    filler = where / "filler"
    left = scene.draw.choice([0, scene.draw.randrange(8 << 20)])
    free = os.statvfs(where).f_bavail * os.statvfs(where).f_frsize
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        for _ in range(max(0, free - left) // 4096 + 1):
            file.write(bytes(4096))
    scene.said.append(f"{left} bytes left")
    if scene.draw.random() < 0.3:
        time.sleep(scene.draw.random() * 2)
        scene.kill(start.pid)
    code = scene.ends(start, WHOLE, (FAILED, CONFIG, -signal.SIGKILL))
    if code > 0 and not says_full(start):
        raise WrongError("it does not say that there is no space left")
    if code == FAILED and scene.draw.random() < 0.5:  # while there is none yet
        again = scene.begin()
        if (code := again.wait(WHOLE)) > 0 and not says_full(again):
            raise WrongError("a start on a full disk does not say that there is no space left")
        scene.said.append(f"started again meanwhile: exit code {code}")
    filler.unlink()


def says_full(start: Start) -> bool:
    """By the system's words or by the check of space; and in the command's own words, not by a traceback of its own."""
    said = start.said()
    own = "Traceback" in said and "failed:" not in said
    return ("No space left" in said or "MiB free" in said) and not own


def take_rights(scene: Scene) -> None:
    """The run's folders lose their rights to be written, while files that are open stay so."""
    start = scene.begin()
    scene.moment(start)
    folders = [f for f in (scene.place.run, scene.place.checkpoints, scene.place.run / "heartbeats") if f.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    scene.ends(start, WHOLE, (FAILED,), "Permission denied")
    for folder in folders:
        folder.chmod(0o755)


def mount_read_only(scene: Scene) -> None:
    """The disk of a run that was killed can only be read."""
    start = scene.begin()
    scene.moment(start)
    scene.kill(start.pid)
    scene.ends(start, FAILS, (-signal.SIGKILL,))
    with scene.place.read_only(scene.place.run if scene.draw.random() < 0.5 else scene.place.cwd / "runs"):
        refused(scene, "cannot be")


def set_clock_back(scene: Scene) -> None:
    """The clock that Python reads, of all processes; it stays so when the run is gone on with."""
    start = scene.begin()
    scene.early(start) if scene.draw.random() < 0.3 else scene.moment(start)
    seconds = scene.draw.choice([90, 3_700, 90_000, 40_000_000])
    scene.said.append(f"by {seconds} s")
    turn_clock(scene.clock, -seconds)
    how = scene.draw.choice(["", "SIGKILL", "SIGTERM"])
    if not how:
        scene.ends(start, WHOLE, ())
        return
    time.sleep(scene.draw.random())
    scene.said.append(how)
    scene.kill(start.pid, signal.Signals[how])
    scene.ends(start, STOPS, (-signal.SIGKILL, STOPPED, -signal.SIGTERM, 143))


@dataclass(frozen=True)
class Kind:
    """A kind of fault. share: how often it comes among the others. workers: the run has two of them, always. needs:
    what has to be there: mounts, or the clock."""

    name: str
    act: Callable[[Scene], None]
    share: int = 1
    workers: bool = False
    needs: str = ""


KINDS = [
    Kind("kill the parent", kill_parent, 2),
    Kind("kill the parent in a save", lambda s: kill_parent(s, saving=True), 2),
    Kind("kill the parent twice", kill_again),
    Kind("kill replicas", kill_replicas),
    Kind("kill replicas in a save", lambda s: kill_replicas(s, saving=True), 2),
    Kind("kill a worker", kill_worker, workers=True),
    Kind("kill a worker in a save", lambda s: kill_worker(s, saving=True), workers=True),
    Kind("kill all processes", kill_everything),
    Kind("signal", stop),
    Kind("signal before the first step", lambda s: stop(s, early=True)),
    Kind("signal in a save", lambda s: stop(s, saving=True)),
    Kind("signal in an evaluation", stop_evaluating, 2),
    Kind("two signals", signal_twice, 2),
    Kind("replica raises", fail),
    Kind("replica hangs", hang),
    Kind("SIGSTOP of replicas", freeze_replicas),
    Kind("SIGSTOP of a worker", freeze_worker, workers=True),
    Kind("SIGSTOP of the parent", freeze_parent),
    Kind("corrupt image", corrupt_image),
    Kind("damaged tensors", lambda s: damage_checkpoints(s, "state.safetensors"), 2),
    Kind("damaged manifests", lambda s: damage_checkpoints(s, "manifest.json"), 2),
    Kind("full disk", lambda s: fill_disk(s, True), 2, needs="mounts"),
    Kind("full disk of checkpoints", lambda s: fill_disk(s, False), 2, needs="mounts"),
    Kind("no right to write", take_rights, needs="mounts"),  # which come with rights that can be lost
    Kind("read-only disk", mount_read_only, needs="mounts"),
    Kind("clock set back", set_clock_back, 2, needs="clock"),
]
