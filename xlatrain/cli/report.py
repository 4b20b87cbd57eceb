"""`xlatrain report RUN...`: what runs, or the jobs of a sweep, came to, as a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from xlatrain.cli.sweep_record import JOBS, recorded_jobs
from xlatrain.cli.sweep_results import compare_jobs
from xlatrain.cli.verbs import take_flags
from xlatrain.config.run import RunConfig, SweepConfig
from xlatrain.console import make_console
from xlatrain.errors import EXIT_DONE, ConfigError, Fault
from xlatrain.files import write_text
from xlatrain.out_path import file_faults
from xlatrain.reporting.record import is_run, read_record
from xlatrain.reporting.run_page import run_page
from xlatrain.reporting.sweep_page import Job, sweep_page

_MOST = 64  # runs on one page


def report(arguments: Sequence[str]) -> int:
    """`xlatrain report RUN... [out=FILE] [run.root=FOLDER]`. Raises ConfigError."""
    flags, names = take_flags("report", arguments)
    out = Path(flags.get("out", "report.html"))
    faults = [Fault(n, "no option of report", "give runs, out=FILE and run.root=FOLDER") for n in names if "=" in n]
    faults += _page_faults(out)
    root, folders = flags.get("run.root", RunConfig().root), {}
    if not names:
        faults.append(Fault("report", "no run is named", "write xlatrain report runs/NAME"))
    for name in names:
        try:
            folder = _folder(name, root)
            folders.setdefault(folder.resolve(), folder)
        except ConfigError as error:
            faults += error.faults if "=" not in name else ()
    sweeps = [folder for folder in folders.values() if (folder / JOBS).is_file()]
    if sweeps and len(folders) > 1:
        faults.append(Fault("report", f"{sweeps[0]} is a sweep, which has a page of its own", "name it alone"))
    if len(folders) > _MOST:
        faults.append(Fault("report", f"{len(folders)} runs are too many for a page", f"name {_MOST} at most"))
    if faults:
        raise ConfigError(*faults)
    page = _of_sweep(sweeps[0]) if sweeps else run_page([read_record(f, n) for f, n in _named(list(folders.values()))])
    try:
        write_text(out, page.encode(errors="replace").decode())  # names of files may be no text
    except OSError as error:
        raise ConfigError(Fault("out", f"{out} cannot be written: {error.strerror}", "name another file")) from None
    make_console().print(f"written to {out}", soft_wrap=True)
    return EXIT_DONE


def _folder(name: str, root: str) -> Path:
    """The folder that a run is named by, or that of its name. Raises ConfigError."""
    for folder in (Path(name), Path(root) / name):
        if is_run(folder) or (folder / JOBS).is_file():
            return folder
    if not Path(name).exists() and not (Path(root) / name).exists():
        raise ConfigError(Fault("report", f"there is no run {name}, here or in {root}", "give its folder, runs/NAME"))
    problem = f"{name} is no folder of a run or a sweep: it has none of their files"
    raise ConfigError(Fault("report", problem, "give the folder of a run, runs/NAME, or its name"))


def _named(folders: Sequence[Path]) -> list[tuple[Path, str]]:
    """Each folder with the name that it has on the page: its own, or where several have the same its whole path."""
    names = Counter(folder.resolve().name for folder in folders)
    return [(f, f.resolve().name if names[f.resolve().name] == 1 else str(f)) for f in folders]


def _of_sweep(folder: Path) -> str:
    """The page of a sweep."""
    try:
        jobs = recorded_jobs(folder)
    except (OSError, ValueError, KeyError, TypeError):
        problem = f"{folder / JOBS} cannot be read: its lines are not those of a sweep"
        raise ConfigError(Fault("report", problem, "put back a copy of it, or name single jobs")) from None
    if not jobs:
        raise ConfigError(Fault("report", f"the sweep {folder} has no job yet", "wait until it has begun one"))
    places = [folder / str(job.number) for job in jobs]
    records = [read_record(p, f"job {job.number}") if is_run(p) else None for p, job in zip(places, jobs, strict=True)]
    objective = next((r.options["sweep.objective"] for r in records if r and "sweep.objective" in r.options), None)
    objective = objective or SweepConfig().objective
    found = compare_jobs(folder, jobs, objective)
    trials = [
        Job(job.number, result.overrides, summary["status"], result.value, record)
        for job, result, summary, record in zip(jobs, found.results, found.summaries, records, strict=True)
    ]
    return sweep_page(folder.resolve().name, sorted(found.common), trials, objective, found.best)


def _page_faults(path: Path) -> list[Fault]:
    """Whether a page can be written there."""
    if path.suffix not in (".html", ".htm"):
        return [Fault("out", f"{path} is no name of a page", "give out=FILE.html")]
    return file_faults(path)
