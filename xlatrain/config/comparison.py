"""Options that are comparisons, as a command has them. Imports nothing: the command line reads its words by it."""

from __future__ import annotations

import re
from collections.abc import Sequence

_COMPARISON = re.compile(r"(?P<key>[\w.]+)=(?P<value>[\w. ]+[<>]=?[\w.+ -]+)")


def quote_comparisons(words: Sequence[str]) -> list[str]:
    """The words of a command, of those that set an option to a comparison, as train.until=top1>=0.94, the value quoted:
    Hydra reads no < and > where there are no quotes."""
    found = (_COMPARISON.fullmatch(word) for word in words)
    return [f"{m['key']}='{m['value']}'" if m else word for m, word in zip(found, words, strict=True)]
