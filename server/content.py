"""What a client is shown of an answer, whole or while it still grows: the same text either way."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from swires.events import Event, SearchFinished, TextCommitted
from swires.parser import Piece, Splitter
from swires.result import answer_sections
from swires.stages import Stage
from swires.types import TokenLogprob, Trajectory


@dataclass(frozen=True, slots=True)
class Content:
    """The CONCLUSION up to the first stop string, and the stages before it; `raw`, the tagged transcript and none.

    `finished` is False where a limit has cut the answer; `num_tokens` and `logprobs` are those of `text`.
    """

    text: str
    reasoning: tuple[str, ...]
    finished: bool
    num_tokens: int
    logprobs: tuple[TokenLogprob, ...]


def content(answer: Trajectory, *, raw: bool, stops: Sequence[str]) -> Content:
    finished = bool(answer.candidates) and answer.last.finish_reason == "stop" and answer.last.stage is Stage.CONCLUSION
    if raw:
        return Content(answer.text, (), finished, answer.num_tokens, ())
    sections = answer_sections(answer)
    whole = "".join(section.text for section in sections if section.stage is Stage.CONCLUSION)
    num_tokens = sum(section.num_tokens for section in sections if section.stage is Stage.CONCLUSION)
    stopper = Stopper(stops)
    text = stopper.feed(whole) + stopper.close()
    return Content(
        text,
        tuple(section.text for section in sections if section.stage is not Stage.CONCLUSION),
        finished or stopper.met,
        num_tokens * len(text) // max(1, len(whole)),
        tuple(_logprobs(answer, text)),
    )


def _logprobs(answer: Trajectory, text: str) -> Iterator[TokenLogprob]:
    """Of the tokens that have a part in `text`, where the answer has it after the tag that opens its CONCLUSION."""
    if not text:
        return
    _, tag, after = answer.text.partition(Stage.CONCLUSION.opening)
    begin = len(answer.text) - len(after) if tag else 0
    start = max(begin, answer.text.find(text, begin))
    place = 0
    for candidate in answer.candidates:
        at = place
        for token in candidate.token_logprobs:
            end = at + len(token.text)
            if at < start + len(text) and (at >= start or end > start):
                yield token
            at = end
        place += len(candidate.text)


class Stopper:
    """Text up to the stop string that is the first to be complete, the same whatever the chunks."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""  # what may be the beginning of a stop string
        self.met = False

    def feed(self, text: str) -> str:
        """What is certain now to come before it."""
        if self.met:
            return ""
        text = self._held + text
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        self.met = bool(found)
        end = min(found)[1] if found else _end_of_text(text, self._stops)
        self._held = text[end:]
        return text[:end]

    def close(self) -> str:
        """The rest, at the end of the text."""
        return "" if self.met else self._held


def _end_of_text(text: str, stops: Sequence[str]) -> int:
    """Where a stop string may have begun that the text does not yet hold whole."""
    longest = max(map(len, stops), default=1)
    starts = range(max(0, len(text) - longest + 1), len(text))
    return next((at for at in starts if any(stop.startswith(text[at:]) for stop in stops)), len(text))


class Pieces:
    """The committed text of an answer as pieces of its stages, of which CONCLUSION is the content."""

    def __init__(self, *, raw: bool, stops: Sequence[str]) -> None:
        self._raw = raw
        self._splitter = Splitter()
        self._stopper = Stopper(stops)

    def of(self, event: Event) -> Iterator[Piece]:
        match event:
            case TextCommitted(text) if self._raw:
                yield Piece(Stage.CONCLUSION, text, begins=False)
            case TextCommitted(text):
                yield from self._stopped(self._splitter.feed(text))
            case SearchFinished() if not self._raw:
                yield from self._stopped(self._splitter.close())
                if rest := self._stopper.close():
                    yield Piece(Stage.CONCLUSION, rest, begins=False)

    def _stopped(self, pieces: Sequence[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            text = self._stopper.feed(piece.text) if piece.stage is Stage.CONCLUSION else piece.text
            if text:
                yield piece._replace(text=text)
