"""Where the choices of groups are found: in conf/, and in folders of one's own that a command names."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString

from xlatrain.errors import ConfigError, Fault

_PACKAGE = Path(__file__).resolve().parent.parent
# In a wheel conf/ travels inside the package; in a checkout it lies beside it.
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"

CONFIG_DIR = "--config-dir="  # among the overrides of a command: one word, so that it goes wherever they go


def split_command(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words among a command's overrides that name folders of one's own, and those that are overrides."""
    folders = [text for text in overrides if text.startswith(CONFIG_DIR)]
    return folders, [text for text in overrides if text not in folders]


def search_path(overrides: Sequence[str]) -> list[str]:
    """Hydra's override that has it look into a command's folders too; none where it names none. Raises ConfigError for
    a folder that is not there, and for a choice in it that would never be found, as conf/ has one of its name."""
    folders = _folders(overrides)
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(Fault("--config-dir", f"there is no folder {folder}", "name one with GROUP/CHOICE.yaml"))
        for group, names in _choices(folder).items():
            if hidden := sorted(set(names) & set(_choices(CONF).get(group, []))):
                problem = f"{folder / group / hidden[0]}.yaml is hidden by the {group}={hidden[0]} of conf/"
                raise ConfigError(Fault("--config-dir", problem, "give it another name"))
    if not folders:
        return []
    urls = (QuotedString(f"file://{folder.resolve()}", Quote.single).with_quotes() for folder in folders)
    return [f"hydra.searchpath=[{','.join(urls)}]"]


def groups(overrides: Sequence[str] = ()) -> dict[str, list[str]]:
    """The config groups and their choices: those in conf/, then what a command's folders have beside them."""
    found = {group: names for group, names in _choices(CONF).items() if "/" not in group}
    for folder in _folders(overrides):
        for group, names in _choices(folder).items():
            found[group] = sorted({*found.get(group, []), *names})
    return found


def title(group: str, name: str, overrides: Sequence[str] = ()) -> str:
    """What the file of a choice is about: the first line of its header; "" where it has none."""
    places = (root / group / f"{name}.yaml" for root in (CONF, *_folders(overrides)))
    path = next(place for place in places if place.exists())
    lines = (line.removeprefix("# ") for line in path.read_text().splitlines() if line.startswith("# "))
    return next((line for line in lines if not line.startswith("@package")), "")


def is_own_group(key: str, overrides: Sequence[str]) -> bool:
    """Whether a group is one that only a command's folders have: what it holds is added by +key=choice."""
    return key in groups(overrides) and key not in groups()


def _folders(overrides: Sequence[str]) -> list[Path]:
    return [Path(text.removeprefix(CONFIG_DIR)).expanduser() for text in split_command(overrides)[0]]


def _choices(root: Path) -> dict[str, list[str]]:
    """The files of each folder under a root, by its path from there."""
    return _choices_here() if root == CONF else _find_choices(root)


@functools.cache
def _choices_here() -> dict[str, list[str]]:
    return _find_choices(CONF)


def _find_choices(root: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*.yaml")):
        if path.parent != root:
            found.setdefault(path.parent.relative_to(root).as_posix(), []).append(path.stem)
    return found
