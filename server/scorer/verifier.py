"""The model's own judgement of what it wrote: is the next token after the stage rather "yes" or "no"?"""

from collections.abc import Sequence

from server.checkpoint import VerifierTokens
from server.engine.labels import LabelReader
from server.scorer.shown import shown
from server.settings import Sees
from swires.errors import ScorerError
from swires.protocols import Scores
from swires.types import Problem, Trajectory


class Verifier:
    """The raw score is log P(yes) - log P(no), in nats, with the image in view."""

    needs_likelihood = False
    compares = False

    def __init__(self, engine: LabelReader, tokens: VerifierTokens, sees: Sees = "answer") -> None:
        """Raises ScorerError when an answer of the verifier is not a single token."""
        self._engine = engine
        self._sees = sees
        self._ask = engine.encode(tokens.ask)
        self._labels = (self._label(tokens.yes), self._label(tokens.no))

    def _label(self, text: str) -> int:
        ids = self._engine.encode(text)
        if len(ids) != 1:
            raise ScorerError(f"the verifier's answer {text!r} must be one token, the tokenizer makes it {len(ids)}")
        return ids[0]

    async def measure(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        prefixes = [(*self._shown(trajectory), *self._ask) for trajectory in trajectories]
        if problem.num_prompt_tokens + max(map(len, prefixes)) >= self._engine.max_model_len:
            raise ScorerError("the model's context has no room left for a verdict")
        reads = await self._engine.read_labels(problem, prefixes, self._labels)
        cached = sum(read.num_cached_tokens for read in reads)
        return Scores(
            tuple(yes - no for yes, no in (read.logprobs for read in reads)),
            num_tokens=sum(read.num_prompt_tokens for read in reads) - cached,
            num_cached_tokens=cached,
        )

    def _shown(self, trajectory: Trajectory) -> tuple[int, ...]:
        """The whole answer so far as it was sampled, which the engine's cache knows."""
        return trajectory.token_ids if self._sees == "answer" else self._engine.encode(shown(trajectory, self._sees))
