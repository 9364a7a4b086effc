"""Answers as far as they have come, for scorers to judge."""

from itertools import count

from swires.stages import Stage
from swires.types import ROOT, Candidate, Problem, Trajectory
from tests.server.client import image_url


def question(color: str = "red") -> dict[str, object]:
    """As a client asks it, about an image of one colour."""
    image = {"type": "image_url", "image_url": {"url": image_url(color)}}
    return {"role": "user", "content": [image, {"type": "text", "text": "How many?"}]}


QUESTION = question()
PROBLEM = Problem("prompt", 100, (QUESTION,))

_ids = count()


def then(parent: Trajectory, stage: Stage, text: str) -> Trajectory:
    """Every character is a token, as of the fake engine."""
    tagged = f"{stage.opening}{text}{stage.closing}"
    ids = tuple(map(ord, tagged))
    return parent.then(Candidate(next(_ids), stage, tagged, ids, "stop", logprob=-len(text) * len(ids) / 10))


SUMMARY = then(ROOT, Stage.SUMMARY, "I will count.")


def captions(*texts: str) -> list[Trajectory]:
    """Of one summary."""
    return [then(SUMMARY, Stage.CAPTION, text) for text in texts]
