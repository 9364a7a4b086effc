"""A scorer, and a model with one label, for tests of what stands above them."""

from collections.abc import Sequence
from random import Random

from server.engine.classifier import Classified, Conversation
from swires.protocols import Scores
from swires.types import Problem, Trajectory


class FakeScorer:
    """A score is a function of the trajectory's text alone, spread as a calibrated scorer's would be."""

    needs_likelihood = False
    compares = False
    ranks = False

    async def score(self, problem: Problem, trajectories: Sequence[Trajectory]) -> Scores:
        return Scores(tuple(Random(trajectory.text).gauss(0, 1) for trajectory in trajectories))


class FakeClassifier:
    """A logit is a function of the conversation's text, roles and images alone; a letter is a token."""

    async def classify(self, conversations: Sequence[Conversation]) -> tuple[Classified, ...]:
        """See `server.engine.classifier.Classifier`."""
        texts = [repr([dict(message) for message in conversation]) for conversation in conversations]
        return tuple(Classified((Random(text).gauss(0, 1),), len(text), len(text) // 2) for text in texts)
