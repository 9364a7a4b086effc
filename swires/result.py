"""What a search returns."""

from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Literal, TypeAlias

from swires.budget import Limit
from swires.parser import Splitter
from swires.stages import Stage
from swires.types import Candidate, Trajectory

Fate: TypeAlias = Literal["chosen", "discarded", "aborted"]


@dataclass(frozen=True, slots=True)
class AnswerSection:
    """One stage of the answer. Where a candidate spans several, its score is the last one's and its tokens are
    shared out by length of text."""

    stage: Stage
    text: str
    score: float | None
    num_tokens: int


@dataclass(frozen=True, slots=True)
class TokenSplit:
    """Where the tokens went. `winner + discarded + aborted` were generated, `scored` were computed by the scorer, fewer
    where the prefix cache held more; of the prompt tokens of all requests to engine and scorer, `cached` came from the
    prefix cache, `computed` did not.
    """

    prompt: int
    winner: int
    discarded: int
    aborted: int
    scored: int
    cached: int
    computed: int

    @property
    def generated(self) -> int:
        return self.winner + self.discarded + self.aborted


@dataclass(frozen=True, slots=True)
class Node:
    """A candidate in the tree of the search; `parent` is the id of the candidate that it continues."""

    candidate: Candidate
    parent: int | None
    score: float | None
    fate: Fate


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer, how it was found and what it cost. `accepted` is None where no threshold was applied; `others` are
    the further answers that were asked for."""

    answer: Trajectory
    sections: tuple[AnswerSection, ...]
    accepted: bool | None
    stopped_by: Limit | None
    retraces: int
    generations: int
    scorer_degraded: bool
    tokens: TokenSplit
    seconds: float
    nodes: tuple[Node, ...]
    others: tuple[Trajectory, ...] = ()

    @property
    def answers(self) -> tuple[Trajectory, ...]:
        """As many as were asked for, the one that the search found first."""
        return (self.answer, *self.others)


def answer_sections(answer: Trajectory) -> tuple[AnswerSection, ...]:
    """The stages of an answer with the score and the tokens of each."""
    splitter, found, num_tokens = Splitter(), list[AnswerSection](), 0
    for candidate, score in zip(answer.candidates, answer.scores, strict=True):
        pieces = splitter.feed(candidate.text)
        if candidate is answer.last:
            pieces += splitter.close()
        num_tokens += len(candidate.token_ids)
        if not pieces:
            continue  # its tokens go to the next section, or to the last
        for piece, share in zip(pieces, _shares(num_tokens, [len(piece.text) for piece in pieces]), strict=True):
            before = AnswerSection(piece.stage, "", None, 0) if piece.begins else found.pop()
            found.append(replace(before, text=before.text + piece.text, num_tokens=before.num_tokens + share))
        found[-1] = replace(found[-1], score=score)
        num_tokens = 0
    if found:
        found[-1] = replace(found[-1], num_tokens=found[-1].num_tokens + num_tokens)
    return tuple(found)


def _shares(total: int, weights: list[int]) -> list[int]:
    """`total` in whole parts, proportional to `weights`."""
    ends = [total * end // sum(weights) for end in accumulate(weights, initial=0)]
    return [end - start for start, end in pairwise(ends)]
