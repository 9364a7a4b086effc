"""A candidate as it is written: what was sampled of it, what of that is handed on, and how it ends."""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TypeAlias

from server.engine.merge import merged
from server.engine.tokens import (
    CHARACTER_IN_PIECES,
    MAX_TOKENS_OF_CHARACTER,
    Decode,
    Encode,
    decoded,
    pieces_of,
    trimmed,
)
from swires.protocols import Chunk
from swires.types import FinishReason, Sampling, TokenLogprob

TOKENS_PER_CHUNK = 16
"""How often a candidate that is not shown live tells its ids, so that one that is cut has its tokens counted."""

HELD_BACK = MAX_TOKENS_OF_CHARACTER
"""So many tokens at the end may still change their text or, by a stop string, be replaced."""

Likely: TypeAlias = tuple[float, Sequence[tuple[int, float]]]
"""The log-probability of a sampled token, and tokens that are likely in its place with theirs."""


@dataclass(frozen=True, slots=True)
class End:
    """Why a candidate ended. Where a stop string ended it, `text` is all of it; where a token that ends an answer did,
    which belongs to none, it is `of_answer`."""

    reason: FinishReason
    of_answer: bool = False
    text: str | None = None

    @classmethod
    def told(
        cls,
        finish_reason: str | None,
        stop_reason: int | str | None,
        closing_id: int | None,
        through: Callable[[str], str | None],
    ) -> "End":
        """As vLLM tells it; `through` gives all text to the end of a stop string."""
        reason: FinishReason = "length" if finish_reason == "length" else "stop"
        if isinstance(stop_reason, str):
            return cls(reason, text=through(stop_reason))
        return cls(reason, of_answer=finish_reason == "stop" and stop_reason != closing_id)


@dataclass(slots=True)
class Writing:
    """A candidate at work, behind the id `after`. Of its `ids` and `logprobs` those before `num_sent` were handed
    on, of its text `num_shown` characters.

    It is handed on `num_at_once` or more ids at a time, with their text where it is `live`; `may_stop` says whether a
    stop string may end it.
    """

    index: int
    after: int
    encode: Encode
    decode: Decode
    sampling: Sampling
    live: bool = False
    may_stop: bool = False
    num_at_once: int = 1
    ids: list[int] = field(default_factory=list)
    logprobs: list[Likely] = field(default_factory=list)
    num_sent: int = 0
    num_shown: int = 0

    def take(self, ids: Sequence[int], logprobs: Sequence[Likely] = ()) -> None:
        self.ids += ids
        if logprobs:
            self.logprobs += logprobs

    def rewind(self) -> None:
        """To what was handed on."""
        del self.ids[self.num_sent :], self.logprobs[self.num_sent :]

    def begun(self) -> Chunk | None:
        """What will not change any more, where there is enough of it; counts as handed on."""
        sent, end = self.num_sent, len(self.ids) - (HELD_BACK if self.may_stop else 0)
        if end - sent < self.num_at_once:
            return None
        if not self.live:
            self.num_sent = end
            return Chunk(self.index, "", tuple(self.ids[sent:end]))
        after = self.ids[sent - 1] if sent else self.after
        piece = decoded(self.ids[sent:end], after=after, decode=self.decode)
        if piece.endswith(CHARACTER_IN_PIECES):
            end, piece = self._whole(sent, end, after, piece)
        if end == sent:
            return None
        self.num_sent = end
        self.num_shown += len(piece)
        return Chunk(self.index, piece, tuple(self.ids[sent:end]))

    def _whole(self, sent: int, end: int, after: int, piece: str) -> tuple[int, str]:
        """Where the last whole character before `end` ends, and the text to there; `end` itself where so many ids make
        none, as no character has more."""
        for earlier in range(end - 1, max(sent, end - HELD_BACK), -1):
            begun = decoded(self.ids[sent:earlier], after=after, decode=self.decode)
            if not begun.endswith(CHARACTER_IN_PIECES):
                return earlier, begun
        return (end, piece) if end - sent >= HELD_BACK else (sent, "")

    def last(self, end: End, num_prompt_tokens: int, num_cached_tokens: int) -> Chunk:
        """The rest, and what is told of all."""
        ids, text = self._kept(end)
        return Chunk(
            self.index,
            text[self.num_shown :],
            tuple(ids[self.num_sent :]),
            end.reason,
            self._logprob(end),
            num_prompt_tokens,
            num_cached_tokens,
            () if self.sampling.top_logprobs is None else tuple(self._told(text)),
        )

    def through(self, *stop: str) -> str | None:
        """Its text to where the first of the strings ends, None where it has none of them."""
        text = self._decoded(self.ids)
        ends = [text.find(each) + len(each) for each in stop if each in text]
        return text[: min(ends)] if ends else None

    def _kept(self, end: End) -> tuple[list[int], str]:
        """Ids and text."""
        if end.text is not None:
            return trimmed(self.ids, end.text, decode=self._decoded, encode=self.encode), end.text
        ids = self.ids[:-1] if end.of_answer else self.ids
        return ids, self._decoded(ids)

    def _decoded(self, ids: Sequence[int]) -> str:
        return decoded(ids, after=self.after, decode=self.decode)

    def _logprob(self, end: End) -> float | None:
        counted = self.logprobs[:-1] if end.of_answer else self.logprobs
        return sum(logprob for logprob, _ in counted) if self.logprobs else None

    def _told(self, text: str) -> Iterator[TokenLogprob]:
        """One for each of the sampled ids, those too that the text does not reach."""
        pieces = pieces_of(self.ids, text, after=self.after, decode=self.decode)
        for (before, piece), (logprob, likely) in zip(pieces, self.logprobs, strict=True):
            ranked = sorted(likely, key=itemgetter(1), reverse=True)[: self.sampling.top_logprobs]
            top = [(decoded([token], after=before, decode=self.decode), each) for token, each in ranked]
            yield TokenLogprob(piece, logprob, tuple(top))


def side_by_side(
    n: int, room: int, sample: Callable[[int], AsyncGenerator[Chunk, None]]
) -> AsyncGenerator[Chunk, None]:
    """The chunks of `n` candidates as they come, each sampled by itself; without `room` for a token each is empty."""
    streams = [sample(index) if room > 0 else _empty(index) for index in range(n)]
    return streams[0] if n == 1 else merged(streams)


async def _empty(index: int) -> AsyncGenerator[Chunk, None]:
    yield Chunk(index, "", (), "length")
