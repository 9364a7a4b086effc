"""A reward model's opinion: a model with a head of one label reads the conversation and says how good it is."""

from collections.abc import Sequence

from pydantic import BaseModel, Field, FiniteFloat

from server import sample
from server.engine.classifier import Classified, Classifier, Conversation
from server.scorer.remote import Remote, together
from server.scorer.shown import shown
from server.settings import Sees
from swires.errors import EngineError, InvalidPlan, ScorerError
from swires.protocols import Scores
from swires.types import Message, Problem, Trajectory


class RewardModel:
    """The raw score is the logit of the only label, after the client's messages and what the assistant has written."""

    needs_likelihood = False
    compares = False

    def __init__(self, classifier: Classifier, sees: Sees = "answer") -> None:
        self._classifier = classifier
        self._sees = sees

    async def measure(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        said = [_assistant(shown(trajectory, self._sees)) for trajectory in trajectories]
        reads = await self._classified([(*problem.messages, message) for message in said])
        cached = sum(read.num_cached_tokens for read in reads)
        return Scores(
            tuple(read.logits[0] for read in reads),
            num_tokens=sum(read.num_prompt_tokens for read in reads) - cached,
            num_cached_tokens=cached,
        )

    async def check(self) -> None:
        """Raises ScorerError unless the model takes an image and has one label."""
        await self._classified([(sample.message(), _assistant("1"))])

    async def _classified(self, conversations: Sequence[Conversation]) -> tuple[Classified, ...]:
        try:
            reads = await self._classifier.classify(conversations)
        except (EngineError, InvalidPlan) as error:  # the search has an engine of its own, which is well
            raise ScorerError(f"the reward model: {error}") from error
        for read in reads:
            if len(read.logits) != 1:
                raise ScorerError(f"the reward model has {len(read.logits)} labels: one that scores has one")
        return reads


def _assistant(text: str) -> Message:
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


class _Label(BaseModel):
    probs: list[FiniteFloat]


class _Classification(BaseModel):
    data: list[_Label] = Field(min_length=1, max_length=1)


class RemoteClassifier:
    """A vLLM server started with `--runner pooling`, by its route /classify."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    async def classify(self, conversations: Sequence[Conversation]) -> tuple[Classified, ...]:
        """See `server.engine.classifier.Classifier`."""
        return tuple(await together(self._one(conversation) for conversation in conversations))

    async def _one(self, conversation: Conversation) -> Classified:
        body = {"messages": conversation, "use_activation": False}
        reply = await self._remote.post("classify", body, _Classification)
        return Classified(tuple(reply.data[0].probs))
