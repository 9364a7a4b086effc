"""How many tokens a candidate has where lengths are fixed."""

from collections.abc import Mapping

from swires.stages import Stage


def length(means: Mapping[Stage, float], stage: Stage, *, after: int = 0) -> int:
    """Of a candidate that ends with `stage` and comes after so many tokens, which are whole stages."""
    return sum(round(means[each]) for each in Stage if each <= stage) - after
