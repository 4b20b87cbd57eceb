"""Options of a run that starts from weights: what of them stays, and what moves first."""

from __future__ import annotations

from dataclasses import dataclass

from xlatrain.config.option import option


@dataclass
class FinetuneConfig:
    freeze: list[str] = option(
        [],
        "what stays as it is, batch norm statistics included: names of modules or parameters as the model has them, "
        "stem, stage1, stage2, ... by timm's groups, or body, all but the head; as in [stem,stage1,blocks.1]",
    )
    head: str = option(
        "auto",
        "the head of weights=...: keep it, or a new one; auto = a new one where the classes are others by number or, "
        "where the file knows them, by name",
        choices=("auto", "keep", "new"),
    )
    head_first: str | None = option(
        None, "how long the head moves alone, in the same compiled step; null = everything moves at once", "duration"
    )
