"""What the recipes of conf/ and of one's own are, as they compose, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xlatrain.config.choices import groups, split_command, title
from xlatrain.config.cluster import usd_per_hour
from xlatrain.config.compose import compose_config, register_schemas
from xlatrain.config.schema import Config
from xlatrain.errors import ConfigError, Fault


@dataclass(frozen=True)
class Recipe:
    """config: what it comes to; options that it leaves open, as where its data lie, are empty."""

    name: str
    config: Config

    @property
    def trains(self) -> str:
        """What, on what."""
        return f"{self.config.model.name} on {self.config.data.name}"

    @property
    def hardware(self) -> str:
        cluster = self.config.cluster
        return cluster.accelerator_type or f"{cluster.replicas or 'all'} replicas on {cluster.platform.upper()}"

    @property
    def claim(self) -> str:
        """What its source says, and whether that was read there."""
        said = self.config.recipe
        return f"{said.claim} ({said.claim_is})" if said.claim else ""

    @property
    def usd(self) -> float | None:
        """What the run is planned to cost, on demand."""
        hourly, hours = usd_per_hour(self.config.cluster), self.config.recipe.hours
        return None if hourly is None or hours is None else hourly * hours

    @property
    def evidence(self) -> str:
        """What is known of it here: run, planned, or neither."""
        said = self.config.recipe
        if said.ran:
            return f"run: {said.ran}"
        if said.hours is None:
            return "not run, not planned"
        cost = "" if self.usd is None else f", {self.usd:,.0f} USD"
        return f"planned: {said.hours * 60:,.0f} min{cost}, {said.memory_gib:g} GiB a replica"


def list_recipes(words: Sequence[str] = ()) -> list[Recipe]:
    """All recipes, or those in whose name or title every word is. words: also --config-dir=FOLDER, for recipes of one's
    own. Raises ConfigError if none has the words."""
    register_schemas()
    folders, wanted = split_command(words)
    found = []
    for name in groups(folders)["recipe"]:
        text = f"{name} {title('recipe', name, folders)}".lower()
        if name != "none" and all(word.lower() in text for word in wanted):
            found.append(Recipe(name, compose_config([*folders, f"recipe={name}"], fill=True)[0]))
    if not found:
        raise ConfigError(Fault(" ".join(wanted), "is in no recipe", "`xlatrain show recipes` lists them all"))
    return found
