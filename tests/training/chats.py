"""Conversations about a picture, and the parts of the models that they are written for."""

from collections.abc import Callable
from importlib import resources
from itertools import groupby

from PIL import Image
from transformers import (
    GotOcr2ImageProcessor,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
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


def _smolvlm() -> ProcessorMixin:
    tokenizer = tiny.FAMILIES["idefics3"]()[1].tokenizer
    names = {
        "fake_image_token": "<fake_token_around_image>",
        "image_token": "<image>",
        "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
        "video_token": "<video>",
    }
    image_processor = SmolVLMImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    return SmolVLMProcessor(
        image_processor,
        _naming(tokenizer, names),
        SmolVLMVideoProcessor(),
        image_seq_len=4,
        chat_template=template_of_trl("smolvlm"),
    )


def _internvl() -> ProcessorMixin:
    tokenizer = tiny.FAMILIES["qwen2_5_vl"]()[1].tokenizer
    names = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    template = template_of_trl("qwen2_5_vl").replace("<|vision_start|><|image_pad|><|vision_end|>", "<IMG_CONTEXT>\n")
    return InternVLProcessor(
        GotOcr2ImageProcessor(size={"height": 32, "width": 32}),
        _naming(tokenizer, names),
        InternVLVideoProcessor(),
        image_seq_length=4,
        chat_template=template,
    )


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


def _naming(tokenizer: PreTrainedTokenizerFast, names: dict[str, str]) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens({"additional_special_tokens": list(names.values())})
    for name, token in names.items():
        setattr(tokenizer, name, token)
        setattr(tokenizer, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
    return tokenizer


PROCESSORS: dict[str, Callable[[], ProcessorMixin]] = {
    **{family: lambda make=make: make()[1] for family, make in tiny.FAMILIES.items()},  # type: ignore[misc]
    "idefics3 of its own": _idefics3_of_its_own,
    "smolvlm": _smolvlm,
    "internvl": _internvl,
    "llava_next": _llava_next,
}
