"""The command line of `xlatrain shards`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path

from xlatrain.console import say
from xlatrain.data.make_shards.index import index
from xlatrain.data.make_shards.info import info
from xlatrain.data.make_shards.make import WriteOrder, from_folder, from_tar
from xlatrain.data.make_shards.pictures import WriteOptions
from xlatrain.data.make_shards.verify import verify
from xlatrain.errors import EXIT_CONFIG, EXIT_FAILED, DataError

INTERRUPTED = 130


def shards(arguments: Sequence[str]) -> int:
    """Run a command; returns its exit code: 0 done, 1 failed or problems found, 2 wrong arguments, 130 Ctrl-C. Raises
    ConfigError."""
    parser = _parser()
    try:
        asked = parser.parse_args(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    if getattr(asked, "quality", None) is not None and asked.short_side is None:
        say("xlatrain shards: --quality needs --short-side: other images are stored as they are")
        return EXIT_CONFIG
    try:
        return asked.run(asked)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on where it ended")
        return INTERRUPTED
    except BrokenExecutor:
        say("a worker process was ended from outside, most often for memory: fewer --processes, then the same command")
    except (OSError, DataError) as error:
        say(f"xlatrain shards: {error}")
    return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xlatrain shards",
        description="Data sets of WebDataset tar shards.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    folder = _command(commands, "from-folder", "write shards from a folder in ImageFolder layout", _from_folder)
    folder.add_argument("src", metavar="SRC", type=Path, help="holds train/ and val/ of class folders, or these alone")
    folder.add_argument("dst", metavar="DST", type=Path, help="gets train/ and val/ of shards")
    _add_writing(folder)

    tar = _command(commands, "from-tar", "write shards from tar archives, also of one archive per class", _from_tar)
    tar.add_argument("src", metavar="SRC", type=Path, nargs="+", help=".tar, .tar.gz, .tar.bz2 or .tar.xz")
    tar.add_argument("dst", metavar="DST", type=Path, help="gets train/ and val/ of shards")
    tar.add_argument("--val", metavar="ARCHIVE", type=Path, help="the archive of val, where SRC is only train")
    tar.add_argument("--labels", metavar="FILE", type=Path, help="lines of image-name class-name, for flat archives")
    _add_writing(tar)

    make = _command(commands, "index", "write the index of shards that others wrote", lambda a: _index(a))
    make.add_argument("url", metavar="URL", help="a folder, or a pattern such as gs://b/shard-{000..146}.tar")
    make.add_argument("--out", metavar="FILE", type=Path, help="where the index goes (default: beside local shards)")
    make.add_argument("--class-names", metavar="FILE", type=Path, help="a name per line (default: numbers)")
    make.add_argument(
        "--max-classes",
        metavar="N",
        type=_count,
        default=100_000,
        help="refuse labels that make more classes than this, where no names are given; default: %(default)s",
    )

    check = _command(commands, "verify", "read everything and name what is wrong", lambda a: verify(a.url, a.processes))
    show = _command(commands, "info", "what the index says", lambda a: info(a.url))
    for command in (check, show):
        command.add_argument("url", metavar="URL", help="holds train/ and val/, or is one of them")
    for command in (folder, tar, make, check):
        command.add_argument("--processes", type=_count, default=os.cpu_count() or 1, help="default: %(default)s")
    parser.epilog = "\n".join(command.format_usage() for command in commands.choices.values())
    return parser


def _command(
    commands: argparse._SubParsersAction, name: str, what: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    parser.set_defaults(run=run)
    return parser


def _add_writing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--split", metavar="FRACTION", type=_fraction, help="share of each class that becomes val")
    parser.add_argument("--samples-per-shard", metavar="N", type=_count, default=1000, help="default: %(default)s")
    parser.add_argument(
        "--seed",
        type=_seed,
        default=0,
        help="of the order of the images; default: %(default)s",
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave out images that cannot be decoded")
    parser.add_argument("--short-side", metavar="N", type=_count, help="re-encode what is larger as JPEG of this side")
    parser.add_argument("--quality", metavar="Q", type=_quality, help="of --short-side; default: 90")


def _from_folder(asked: argparse.Namespace) -> int:
    return from_folder(asked.src, _order(asked))


def _from_tar(asked: argparse.Namespace) -> int:
    return from_tar(asked.src, asked.val, asked.labels, _order(asked))


def _index(asked: argparse.Namespace) -> int:
    return index(asked.url, asked.out, asked.class_names, asked.max_classes, asked.processes)


def _order(asked: argparse.Namespace) -> WriteOrder:
    options = WriteOptions(asked.samples_per_shard, asked.seed, asked.short_side, asked.quality or 90)
    return WriteOrder(asked.dst, options, asked.processes, asked.skip_bad, asked.split)


def _count(text: str) -> int:
    return _within(text, 1, 2**31)


def _quality(text: str) -> int:
    return _within(text, 1, 100)


def _seed(text: str) -> int:
    return _within(text, 0, 2**31)


def _within(text: str, least: int, most: int) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{number} is not between {least} and {most:,}")
    return number


def _fraction(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return number
