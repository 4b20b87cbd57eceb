"""Writes the shards of a split with many processes, goes on where an earlier run ended, and says what it found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xlatrain.console import say, say_first
from xlatrain.data.make_shards.convert import convert, read_picture
from xlatrain.data.make_shards.pictures import Item, PictureSet, WriteOptions, in_order
from xlatrain.data.make_shards.pool import run_jobs
from xlatrain.data.make_shards.resume import BAD_FILES, FolderState, Report, finish, keep, left_out, writing
from xlatrain.data.make_shards.tally import Tally
from xlatrain.data.shard_format import write_shard
from xlatrain.errors import in_a_line
from xlatrain.words import counted


@dataclass(frozen=True)
class Job:
    """One shard: where it goes and what goes into it."""

    path: Path
    items: tuple[Item, ...]
    options: WriteOptions


@dataclass(frozen=True)
class Outcome:
    """What a split came to. bad: images that were left out or, when it is not sound, are to be mended first."""

    folder: Path
    sound: bool
    shards: int = 0
    samples: int = 0
    bytes: int = 0
    counts: dict[str, int] | None = None
    bad: int = 0


def write_split(
    state: FolderState, split: PictureSet, options: WriteOptions, processes: int, skip_bad: bool
) -> Outcome:
    """Write what is not there yet; the index only when no image is bad or the bad ones may be left out."""
    if state.complete:
        return already_complete(state, skip_bad)
    items, size = in_order(split, options.seed), options.samples_per_shard
    groups = [tuple(items[i : i + size]) for i in range(0, len(items), size)]
    jobs = [Job(state.folder.absolute() / f"shard-{i:06d}.tar", group, options) for i, group in enumerate(groups)]
    reports = dict(state.finished)
    todo = [job for job in jobs if job.path.name not in reports]
    if reports:
        say(f"{split.name}: {len(reports)} of {counted(len(jobs), 'shard')} there already")
    with (
        writing(state),
        Tally(split.name, sum(len(job.items) for job in todo)) as tally,
        run_jobs(write_group, todo, processes) as results,
    ):
        for report in results:
            keep(state, report)
            reports[report.shard.name] = report
            tally.advance(report.shard.samples + len(report.bad))
    return _end(state, split, [reports[job.path.name] for job in jobs], skip_bad)


def write_group(job: Job) -> Report:
    """Write one shard. Raises OSError when it cannot be written."""
    counts, bad = Counter(), []

    def samples() -> Iterator[tuple[str, str, bytes, int]]:
        for item in job.items:
            try:
                stored = convert(read_picture(item.picture), item.picture.name, job.options)
            except Exception as error:  # decoders raise anything for damaged images
                bad.append((item.picture.name, in_a_line(error)))
                continue
            counts.update(stored.notes)
            yield item.key, stored.kind, stored.data, item.label

    shard = write_shard(job.path, samples())
    return Report(shard, dict(counts), tuple(bad))


def already_complete(state: FolderState, skip_bad: bool) -> Outcome:
    without = left_out(state)
    say(f"{state.folder} is already complete" + (f", without {counted(without, 'bad file')}" if without else ""))
    return Outcome(state.folder, skip_bad or not without)


def _end(state: FolderState, split: PictureSet, reports: list[Report], skip_bad: bool) -> Outcome:
    bad = sorted(entry for report in reports for entry in report.bad)
    counts = sum((Counter(report.counts) for report in reports), Counter())
    _list_bad(state.folder, split.name, bad)
    whole = [r.shard for r in reports if r.shard.samples]
    sound = bool(whole) and (skip_bad or not bad)
    if sound:
        finish(state, reports, split.class_names, dict(sorted(counts.items())))
    size = sum(shard.bytes for shard in whole)
    return Outcome(state.folder, sound, len(whole), sum(s.samples for s in whole), size, dict(counts), len(bad))


def _list_bad(folder: Path, split: str, bad: list[tuple[str, str]]) -> None:
    path = folder / BAD_FILES
    if not bad:
        path.unlink(missing_ok=True)
        return
    lines = [f"{name}\t{reason}\n" for name, reason in bad]
    path.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
    say(f"{split}: {counted(len(bad), 'bad file')}, listed in {path}")
    say_first([f"{name}: {reason}" for name, reason in bad])
