"""The public easy-VQA data set (PyPI package `easy-vqa`): one coloured shape a picture, answers of one word."""

import re
from functools import cache
from typing import Literal

import easy_vqa
from PIL import Image

from swires.stages import Stage
from training.tasks.example import Example

COLORS = ("black", "gray", "red", "blue", "green", "yellow", "teal", "brown")
SHAPES = ("circle", "rectangle", "triangle")
NEGATION = re.compile(r"\b(not|no)\b")


def easy_vqa_examples(split: Literal["train", "test"]) -> list[Example]:
    """The questions of a split in its published order.

    Caption and reasoning are derived from what a picture's other answers tell of it; where these do not tell both its
    colour and its shape, an example has its CONCLUSION only.
    """
    questions = {"train": easy_vqa.get_train_questions, "test": easy_vqa.get_test_questions}[split]
    paths = {"train": easy_vqa.get_train_image_paths, "test": easy_vqa.get_test_image_paths}[split]()
    asked = list(zip(*questions(), strict=True))
    scenes = _scenes(asked)
    load = cache(lambda number: Image.open(paths[number]).convert("RGB"))
    return [
        Example(
            load(number),
            text,
            _stages(text, answer, *scenes[number]) if number in scenes else {Stage.CONCLUSION: answer},
        )
        for text, answer, number in asked
    ]


def _scenes(asked: list[tuple[str, str, int]]) -> dict[int, tuple[str, str]]:
    """Colour and shape of the pictures whose questions tell both."""
    known: dict[int, dict[str, str]] = {}
    for text, answer, number in asked:
        facts = known.setdefault(number, {})
        if answer in COLORS:
            facts["color"] = answer
        elif answer in SHAPES:
            facts["shape"] = answer
        elif (answer == "yes") != bool(NEGATION.search(text)):
            kind, word = _named(text)
            facts[kind] = word
    return {number: (facts["color"], facts["shape"]) for number, facts in known.items() if len(facts) == 2}


def _named(text: str) -> tuple[str, str]:
    word = next(word for word in re.findall(r"\w+", text) if word in COLORS + SHAPES)
    return ("color" if word in COLORS else "shape"), word


def _stages(text: str, answer: str, color: str, shape: str) -> dict[Stage, str]:
    if answer in ("yes", "no"):
        kind, word = _named(text)
        seen = color if kind == "color" else shape
        same = "the same" if seen == word else "not the same"
        wanted = "absent" if NEGATION.search(text) else "present"
        plan = f"See what is there and tell whether {word} is {wanted}."
        reasoning = f"Asked for {word}, seen {seen}: {same}. Asked whether it is {wanted}: {answer}."
    else:
        kind = "color" if answer == color else "shape"
        plan = f"See what is there and tell its {kind}."
        reasoning = f"The {kind} is {answer}."
    return {
        Stage.SUMMARY: plan,
        Stage.CAPTION: f"1 object: 1 {color} {shape}.",
        Stage.REASONING: reasoning,
        Stage.CONCLUSION: answer,
    }
