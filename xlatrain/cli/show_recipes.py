"""`xlatrain show recipes`: which published runs there are as one option, what they claim, and what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from xlatrain.config.recipes import Recipe, list_recipes
from xlatrain.console import make_console
from xlatrain.errors import ConfigError, Fault
from xlatrain.out_path import file_faults
from xlatrain.words import counted

_HEADINGS = ("recipe", "whose run", "batch", "optimizer", "on", "claim", "options", "here")


def show_recipes(words: Sequence[str], out: Path | None) -> None:
    """Print the recipes that have all words, or write them as a table of Markdown. Raises ConfigError."""
    if out is not None and out.suffix != ".md":
        raise ConfigError(Fault("out", f"{out} is no name of a table", "give one that ends with .md"))
    if out is not None and (faults := file_faults(out)):
        raise ConfigError(*faults)
    recipes = list_recipes(words)
    console = make_console()
    if out is not None:
        out.write_text(as_markdown(recipes))
        console.print(f"{counted(len(recipes), 'recipe')} written to {out}")
        return
    table = Table(box=None, pad_edge=False)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right" if heading == "batch" else "left", no_wrap=heading == "recipe")
    for recipe in recipes:
        table.add_row(*_row(recipe))
    console.print(table)
    console.print(
        f"{counted(len(recipes), 'recipe')}; conf/recipe/NAME.yaml says where each number is from, and what was run"
    )


def as_markdown(recipes: Sequence[Recipe]) -> str:
    """The same as a document."""
    lines = [
        "# All recipes",
        "",
        "Made by `show recipes out=docs/recipes_table.md`. What the columns mean: [recipes.md](recipes.md).",
        "",
        f"| {' | '.join(_HEADINGS)} |",
        f"|{'---|' * len(_HEADINGS)}",
        *(f"| {' | '.join(_row(recipe))} |" for recipe in recipes),
    ]
    return "\n".join(lines) + "\n"


def _row(recipe: Recipe) -> tuple[str, ...]:
    config = recipe.config
    return (
        recipe.name,
        config.recipe.what or recipe.trains,
        f"{config.train.global_batch:,}",
        config.optimizer.name,
        recipe.hardware,
        recipe.claim,
        config.recipe.numbers or "",
        recipe.evidence,
    )
