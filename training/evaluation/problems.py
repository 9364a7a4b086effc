"""What is asked, and whether an answer is right."""

import itertools
import random

from training.tasks.easy_vqa import easy_vqa_examples
from training.tasks.example import Example
from training.tasks.scenes import scenes

TASKS = ("scenes", "easy-vqa")


def problems(task: str, count: int, seed: int) -> list[Example]:
    """`count` scenes of the seed, or as many questions of easy-VQA's test split (all of them in their order if 0)."""
    if task == "scenes":
        return list(itertools.islice(scenes(seed), count or 500))
    questions = easy_vqa_examples("test")
    return random.Random(seed).sample(questions, count) if count else questions


def is_right(content: str, expected: str) -> bool:
    """Letter case and the white space around do not matter."""
    return content.strip().lower() == expected.strip().lower()
