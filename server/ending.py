"""How a search ends, for whoever counts, logs or traces it."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from swires.errors import DeadlineExceeded, Overloaded
from swires.events import Event, SearchFinished
from swires.result import SearchResult


def outcome_without_answer(error: BaseException | None) -> str:
    """One that was left alone is ended by no Exception."""
    match error:
        case Overloaded():
            return "refused"
        case DeadlineExceeded():
            return "deadline"
        case Exception():
            return "failed"
    return "cancelled"


@dataclass(frozen=True, slots=True)
class Ending:
    """With a `result`, or with the `error` that took its place; with neither the client hung up."""

    result: SearchResult | None = None
    error: Exception | None = None

    @property
    def outcome(self) -> str:
        """`finished`, the limit that ended the search with an answer, or why there is none."""
        if self.result is not None:
            return self.result.stopped_by or "finished"
        return outcome_without_answer(self.error)

    @property
    def facts(self) -> dict[str, object]:
        """For the log: numbers and names, no text."""
        if self.result is None:
            return {"outcome": self.outcome}
        result, tokens = self.result, self.result.tokens
        return {
            "outcome": self.outcome,
            "stopped_by": result.stopped_by,
            "accepted": result.accepted,
            "search_seconds": round(result.seconds, 4),
            "generations": result.generations,
            "retraces": result.retraces,
            "tokens": tokens.generated,
            "prompt_tokens": tokens.prompt,
            "scored_tokens": tokens.scored,
            "cached_tokens": tokens.cached,
            "scorer_degraded": result.scorer_degraded,
        }


async def until_ended(
    events: AsyncGenerator[Event, None], tell: Callable[[Ending], None]
) -> AsyncGenerator[Event, None]:
    """`events`; `tell` is called once when they are over, however that comes."""
    ending = Ending()
    try:
        async with aclosing(events):
            async for event in events:
                if isinstance(event, SearchFinished):
                    ending = Ending(event.result)
                yield event
    except Exception as error:
        ending = Ending(error=error)
        raise
    finally:
        tell(ending)
