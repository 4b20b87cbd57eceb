"""The largest local batch that fits, by compiling."""

from __future__ import annotations

from collections.abc import Callable


def largest_fitting(
    needed: Callable[[int], int],
    capacity: int,
    too_large: int,
    bytes_too_large: int,
    say: Callable[[str], None],
    fits: int = 0,
    fits_bytes: int = 0,
) -> int:
    """The largest number of images below `too_large` whose step fits `capacity` bytes; 0 if not even one does. fits,
    fits_bytes: a number that is known to fit, and its bytes.

    needed(images): bytes that a step of so many takes, by compiling it. Exact up to 16 images, above in steps of a
    sixteenth. Memory grows almost in a straight line with the batch, so each guess is where the line through what is
    known meets the capacity: three or four compilations where halving takes six.
    """
    fails, fails_bytes = too_large, bytes_too_large
    while fails - fits > max(1, fits // 16):
        slope = (fails_bytes - fits_bytes) / (fails - fits)
        guess = fits + int((capacity - fits_bytes) / slope) if slope > 0 else (fits + fails) // 2
        # At least an eighth of the gap from either end: a line through a wrong size must not creep.
        least = max(1, fits // 16, (fails - fits) // 8)
        guess = min(max(guess, fits + least), max(fails - least, fits + 1))
        say(f"looking for the largest local batch: between {fits} and {fails}, trying {guess}")
        found = needed(guess)
        if found <= capacity:
            fits, fits_bytes = guess, found
        else:
            fails, fails_bytes = guess, found
    return fits
