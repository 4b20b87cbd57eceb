"""What a recipe says of itself: `xlatrain show recipes` lists it. A run does nothing by it."""

from __future__ import annotations

from dataclasses import dataclass

from xlatrain.config.option import option


@dataclass
class RecipeConfig:
    what: str | None = option(None, "whose run it is, in a few words")
    claim: str | None = option(None, "what its source says came of it; null = it says nothing, or was not read")
    claim_is: str | None = option(
        None,
        "how the claim is known: read in its source, or recalled and not read; null = there is none",
        choices=("read", "recalled"),
    )
    numbers: str | None = option(
        None,
        "how its options are known: all read in code, configurations or logs; some of them recalled, inferred or other "
        "than the source's, which its header tells; own = xlatrain's own",
        choices=("read", "some", "own"),
    )
    ran: str | None = option(None, "what came of it here, and when; null = not run")
    step_ms: float | None = option(None, "planned: a step on its cluster; null = not computed yet", "ms", low=0)
    memory_gib: float | None = option(None, "planned: memory of a replica; null = not computed yet", "GiB", low=0)
    hours: float | None = option(None, "planned: the whole run; null = not computed yet", "h", low=0)
    planned: str | None = option(None, "when it was planned, and with what; null = not computed yet")
