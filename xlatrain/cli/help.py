"""`xlatrain VERB --help`: flags, choices and options, from the schema, whole on a terminal of any width."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Iterator, Sequence

from omegaconf import DictConfig, OmegaConf

from xlatrain.cli.verbs import CONFIG_DIR, HELP, VERBS, Flag
from xlatrain.config.choices import groups
from xlatrain.config.compose import compose_config, register_schemas
from xlatrain.config.option import options
from xlatrain.config.schema import VARIANTS, Config
from xlatrain.console import make_console, wrapped
from xlatrain.errors import EXIT_DONE, ConfigError, Fault

_ASIDE = 100  # columns from which explanations stand beside names, below under them
_NAMES = 44


def print_options(verb: str, words: Sequence[str] = ()) -> int:
    """Print flags, groups and options with type, default, unit and help; of words only what has all of them. Raises
    ConfigError if nothing has."""
    console = make_console()
    for line in help_lines(verb, words, console.width):
        console.print(line, soft_wrap=True)
    return EXIT_DONE


def help_lines(verb: str, words: Sequence[str], width: int) -> list[str]:
    """The lines of the list, none longer than `width` unless a name alone is."""
    if not VERBS[verb].options:
        return _flag_lines(verb, (HELP,), width)
    register_schemas()
    _, composed = compose_config([f"{key}={value}" for key, value in VERBS[verb].defaults.items()])
    choices = {group: names for group, names in groups().items() if _has(words, group, group, *names)}
    entries = [entry for entry in _options(composed) if _has(words, entry[0], *entry)]
    if words and not choices and not entries:
        raise ConfigError(_unknown(words))
    lines: list[str] = []
    if not words:
        lines += [*_flag_lines(verb, (HELP, CONFIG_DIR), width), ""]
    if choices:
        lines.append("Choices, as in `optimizer=lars`:")
        for group, names in choices.items():
            lines += wrapped(f"  {group:10} {', '.join(names)}", width, "  " + " " * (11 if width >= 60 else 2))
        lines.append("")
    if entries:
        lines += wrapped("Options, with what they are unless the choices or you say otherwise:", width)
    for name, default, text in entries:
        lines += _entry(f"{name}={default}", text, width)
    return lines


def _flag_lines(verb: str, common: Sequence[Flag], width: int) -> list[str]:
    lines = [*wrapped(VERBS[verb].what, width), "", "Flags:"]
    for flag in (*common, *VERBS[verb].flags):
        lines += _entry(flag.shown, flag.help, width)
    return lines


def _has(words: Sequence[str], key: str, *texts: str) -> bool:
    """Whether something has every word: a group and all that is under it by its name, else in any of the texts."""
    known, everything = _first_words(), " ".join(texts).lower()
    return all(key.partition(".")[0] == word if word in known else word.lower() in everything for word in words)


@functools.cache
def _first_words() -> frozenset[str]:
    """The groups, and what stands before the dot in options."""
    return frozenset({*groups(), *(name.partition(".")[0] for name, *_ in _all_options())})


def _unknown(words: Sequence[str]) -> Fault:
    names = [*groups(), *(key for key, *_ in _all_options())]
    near = [n for word in words for n in difflib.get_close_matches(word, names, n=1, cutoff=0.5)]
    cure = f"did you mean {' '.join(near)}?" if near else f"take a group ({', '.join(groups())}) or another word"
    return Fault("--help", f"no group or option has {' and '.join(map(repr, words))}", cure)


def _entry(name: str, text: str, width: int) -> list[str]:
    """A name and its explanation, beside it or under it."""
    if width < _ASIDE:
        return [f"  {name}", *wrapped(f"      {text}", width, " " * 6)]
    lines = wrapped(" " * (_NAMES + 2) + text, width, " " * (_NAMES + 2))
    if len(name) > _NAMES - 2:
        return [f"  {name}", *lines]
    return [f"  {name:{_NAMES}}{lines[0].strip()}", *lines[1:]]


def _options(composed: DictConfig) -> Iterator[tuple[str, str, str]]:
    """Every option: its name, its default, and its meaning, with type, unit, allowed values, and the choices that have
    it where not all have."""
    for key, field, having in _all_options():
        allowed, unit = field.metadata["choices"], field.metadata["unit"]
        text = f"{field.metadata['help']} ({', '.join(p for p in (_type(field), unit) if p)})"
        text += f"; one of {', '.join(map(str, allowed))}" if allowed else ""
        group = key.partition(".")[0]
        yield key, _default(key, field, composed), text + (f"; of {group}={' or '.join(having)}" if having else "")


def _all_options() -> list[tuple[str, dataclasses.Field, tuple[str, ...]]]:
    """Keys and fields, and of what only some choices of a group have, which."""
    rows = [(key, field, ()) for key, field in options(Config)]
    for group, variants in VARIANTS.items():
        seen: dict[str, dataclasses.Field] = {}
        having: dict[str, list[str]] = {}
        for name, variant in variants.items():
            for field in dataclasses.fields(variant):
                if field.metadata:
                    seen.setdefault(field.name, field)
                    having.setdefault(field.name, []).append(name)
        for key, field in seen.items():
            some = having[key]
            rows.append((f"{group}.{key}", field, () if len(some) == len(variants) else tuple(some)))
    return rows


def _type(field: dataclasses.Field) -> str:
    return str(getattr(field.type, "__name__", field.type)).replace("| None", "or null")


def _default(key: str, field: dataclasses.Field, composed: DictConfig) -> str:
    """What an option is when nothing is overridden: in the default choices, else in the schema."""
    value = OmegaConf.select(composed, key)
    if value is None and field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    elif value is None:
        value = field.default
    return {"???": "", "None": "null", "True": "true", "False": "false"}.get(str(value), str(value))
