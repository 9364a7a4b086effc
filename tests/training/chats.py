"""Conversations about a picture, and the parts of the models that they are written for."""

from collections.abc import Callable
from importlib import resources
from itertools import groupby

from PIL import Image
from transformers import (
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    ProcessorMixin,
)

from swires.stages import Stage
from tests.training import tiny
from training.collate import Chat, Collator, Turn

IMAGE = Image.new("RGB", (60, 40), "red")


def answer(conclusion: str) -> str:
    texts = {Stage.SUMMARY: "Count them.", Stage.CAPTION: "Dots, déjà vu.", Stage.REASONING: "One and one."}
    told = {**texts, Stage.CONCLUSION: conclusion}
    return "\n\n".join(f"{stage.opening} {text} {stage.closing}" for stage, text in told.items())


TURNS = (
    Turn(question="How many dots are there?", answer=answer("2")),
    Turn(question="And how many squares?", answer=answer("3")),
)
CHAT = Chat(IMAGE, TURNS)


def told_apart(collate: Collator, chat: Chat = CHAT) -> list[tuple[bool, str]]:
    """Each run of tokens that are learned, or are not, as text."""
    tokens = collate.tokens(chat.turns)
    runs = groupby(zip(tokens.learned, tokens.ids, strict=True), key=lambda token: token[0])
    return [(learned, str(collate.tokenizer.decode([id_ for _, id_ in run]))) for learned, run in runs]


def template_of_trl(name: str) -> str:
    return resources.files("trl").joinpath("chat_templates", f"{name}.jinja").read_text()


def _llava_next() -> ProcessorMixin:
    llava = tiny.FAMILIES["llava"]()[1]
    return LlavaNextProcessor(
        LlavaNextImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_grid_pinpoints=[[32, 64], [64, 32]]
        ),
        llava.tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template_of_trl("llava_next"),
    )


def _idefics3_of_its_own() -> ProcessorMixin:
    processor = tiny.FAMILIES["idefics3"]()[1]
    processor.tokenizer.add_special_tokens({"additional_special_tokens": ["<|begin_of_text|>"]})
    processor.chat_template = template_of_trl("idefics3")
    return processor


PROCESSORS: dict[str, Callable[[], ProcessorMixin]] = {
    **{family: lambda make=make: make()[1] for family, make in tiny.FAMILIES.items()},  # type: ignore[misc]
    "idefics3 of its own": _idefics3_of_its_own,
    "llava_next": _llava_next,
}
