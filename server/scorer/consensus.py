"""How much a candidate agrees with the others: nothing is read, nothing is computed.

For whole answers this is self-consistency's majority vote (Wang et al., arXiv 2203.11171); for stages of free text, the
mean overlap of words with the others, as in minimum Bayes risk decoding (Bertsch et al., arXiv 2310.01387).
"""

import re
from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from server.scorer.shown import stage_judged
from swires.parser import parse
from swires.protocols import Scores
from swires.stages import Stage
from swires.types import Problem, Trajectory


class Consensus:
    """From -1 to 1, above 0 where most agree, each candidate being one of them. Keeps swires' Scorer protocol.

    A threshold in standard deviations is read on this scale.
    """

    needs_likelihood = False
    compares = True
    ranks = False

    async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        said = [_said(trajectory) for trajectory in trajectories]
        return Scores(tuple(2 * fmean(_agreement(one, other) for other in said) - 1 for one in said))


def _said(trajectory: Trajectory) -> Counter[str]:
    """The words of the newest stage; those of a CONCLUSION agree as a whole or not at all, and so are one word."""
    stage = stage_judged(trajectory)
    text = "".join(section.text for section in parse(trajectory.text)[-1:] if section.stage is stage).casefold()
    return Counter([text.strip(" .")] if stage is Stage.CONCLUSION else re.findall(r"\w+", text))


def _agreement(one: Counter[str], other: Counter[str]) -> float:
    """The F1 of the words of one as a prediction of the other's."""
    if one == other:
        return 1.0
    return 2 * (one & other).total() / (one.total() + other.total())
