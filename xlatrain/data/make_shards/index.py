"""`xlatrain shards index`: the index of shards that others wrote."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from xlatrain.console import say, say_first
from xlatrain.data.clustering import describe_clustering, measure_clustering
from xlatrain.data.make_shards.classes import number_classes, tell_of_classes
from xlatrain.data.make_shards.pool import run_jobs
from xlatrain.data.make_shards.survey import Survey, SurveyTask, survey_shard
from xlatrain.data.make_shards.tally import Tally
from xlatrain.data.shard_format import INDEX, read_index, write_index
from xlatrain.data.storage.streams import check_url, list_files
from xlatrain.errors import EXIT_DONE, EXIT_FAILED, ConfigError, Fault
from xlatrain.words import counted


def index(url: str, out: Path | None, names_file: Path | None, max_classes: int, processes: int) -> int:
    """Read every shard and write index.json beside them, or `out` with their whole addresses. max_classes: of those
    that are known by their numbers alone. Returns the exit code."""
    urls = _shards_of(url)
    target = _target(urls, out)
    class_names = _read_names(names_file) if names_file else _names_of(target)
    tasks = [SurveyTask(i, u.rpartition("/")[2], u, decode=False) for i, u in enumerate(urls)]
    surveys = survey_all(tasks, processes, "index", "shard", len(tasks))
    if problems := [p for s in surveys for p in s.problems]:
        show_problems("index", problems)
        say(f"{target} was not written")
        return EXIT_FAILED
    top = max(int(s.labels.max(initial=-1)) for s in surveys)
    if top < 0:
        raise ConfigError(Fault("URL", f"the shards of {url} hold no sample", "name other shards"))
    class_names = class_names or number_classes(surveys, max_classes)
    if len(class_names) <= top:
        problem = f"{names_file or target} names {counted(len(class_names), 'class')}; there is a label {top}"
        raise ConfigError(Fault("--class-names", problem, "name them all in a file, or mend the label"))
    tell_of_classes("index", class_names, surveys)
    shards = [s.shard for s in surveys]
    if out is not None:
        shards = [replace(s, name=u) for s, u in zip(shards, urls, strict=True)]
    clustering = measure_clustering([s.labels for s in surveys])
    write_index(target.parent, shards, class_names, target.name, clustering=clustering)
    samples = sum(s.samples for s in shards)
    say(
        f"{target}: {counted(len(shards), 'shard')}, {counted(samples, 'sample')}, {counted(len(class_names), 'class')}"
    )
    if text := describe_clustering(clustering, samples):
        say(text)
    return EXIT_DONE


def survey_all(tasks: list[SurveyTask], processes: int, what: str, unit: str, total: int) -> list[Survey]:
    """Every shard read, in task."""
    surveys = []
    with Tally(what, total, unit) as tally, run_jobs(survey_shard, tasks, processes) as results:
        for survey in results:
            surveys.append(survey)
            tally.advance(1 if unit == "shard" else len(survey.keys))
    return sorted(surveys, key=lambda s: s.number)


def show_problems(what: str, problems: list[str]) -> None:
    say(f"{what}: {len(problems):,} problem{'s' if len(problems) > 1 else ''}")
    say_first(problems)


def _shards_of(url: str) -> list[str]:
    try:
        urls = [url] if url.endswith(".tar") and "{" not in url else list_files(url, ".tar")
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(Fault("URL", f"there is no folder {url}", "name a folder of .tar files")) from None
    except ValueError as error:
        raise ConfigError(Fault("URL", f"{url}: {error}", "write it as shard-{000000..000123}.tar")) from None
    if not urls:
        raise ConfigError(Fault("URL", f"there is no .tar in {url}", "name a folder of .tar files or a pattern"))
    check_url(urls[0], "URL")
    return [u if "://" in u else os.path.abspath(u) for u in (u.removeprefix("file://") for u in urls)]


def _target(urls: list[str], out: Path | None) -> Path:
    """Where the index goes: an index beside local shards, or the file named."""
    if out is not None:
        if out.suffix != ".json":
            raise ConfigError(Fault("--out", f"{out} does not end in .json", "training knows an index by its .json"))
        if not out.absolute().parent.is_dir():
            raise ConfigError(Fault("--out", f"there is no folder {out.parent}", "make it first"))
        return out
    folders = {u.rpartition("/")[0] for u in urls}
    if "://" in urls[0] or len(folders) > 1:
        where = "are remote" if "://" in urls[0] else f"lie in {len(folders)} folders"
        raise ConfigError(Fault("--out", f"the shards {where}", "say where the index goes: --out FILE.json"))
    return Path(folders.pop()) / INDEX


def _read_names(path: Path) -> list[str]:
    try:
        names = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(Fault("--class-names", f"{path} cannot be read: {error}", "a name per line")) from None
    while names and not names[-1].strip():
        names.pop()
    return [name.strip() for name in names]


def _names_of(target: Path) -> list[str]:
    """An index that is there already keeps its names of classes."""
    if not target.exists():
        return []
    try:
        names = list(read_index(target).class_names)
    except ConfigError:
        return []
    say(f"the names of {counted(len(names), 'class')} are kept from {target}")
    return names
