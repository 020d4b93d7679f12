"""Input for the cases: made from a fixed seed, so that every run has the same."""

from __future__ import annotations

import random

_GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu"


def words(count: int, seed: int = 1) -> str:
    """Return *count* lines of a number and three words."""
    chosen, words_of_line = random.Random(seed), _GREEK.split()
    lines = (
        f"{chosen.randrange(10_000)} {' '.join(chosen.choices(words_of_line, k=3))}\n"
        for _ in range(count)
    )
    return "".join(lines)


def noise(size: int, seed: int = 1) -> bytes:
    """Return *size* random bytes."""
    return random.Random(seed).randbytes(size)


TEXT = words(200)
LONG = words(10_000)
TREE = {
    "tree/one.txt": "first\n",
    "tree/two.txt": "second line\nwith more\n",
    "tree/sub/three.c": "int three(void) { return 3; }\n",
    "tree/sub/deeper/four.txt": words(20),
    "tree/run.sh": "#!/bin/sh\necho run\n",
    "tree/empty/": "",
}
