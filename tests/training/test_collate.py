from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image

from swires.stages import TAGS
from tests.training.chats import CHAT, IMAGE, PROCESSORS, TURNS, answer, template_of_trl, told_apart
from training.collate import IGNORED, Chat, Collator, Turn
from training.config import ConfigError

FIRST, SECOND = TURNS


class Around(NamedTuple):
    """What a template writes before the first answer (the picture is one token), at the end of each, before the second,
    and after it."""

    before: str
    end: str
    between: str
    after: str


IDEFICS3 = "User:<image>{}<end_of_utterance>\nAssistant:"
IDEFICS3_AFTER = ("<end_of_utterance>", "\nUser: {}<end_of_utterance>\nAssistant:", "\n")
QWEN_SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
QWEN = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>{}"
QWEN_AFTER = ("<|im_end|>", "\n" + QWEN, "\n")
LLAMA = "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
AROUND = {
    "idefics3": Around("<|im_start|>" + IDEFICS3, *IDEFICS3_AFTER),
    "smolvlm": Around("<|im_start|>" + IDEFICS3, *IDEFICS3_AFTER),
    "idefics3 of its own": Around("<|begin_of_text|>" + IDEFICS3, *IDEFICS3_AFTER),
    "qwen2_5_vl": Around(QWEN_SYSTEM + QWEN.format(QWEN_IMAGE), *QWEN_AFTER),
    "qwen3_vl": Around(QWEN.format(QWEN_IMAGE), *QWEN_AFTER),
    "internvl": Around(QWEN_SYSTEM + QWEN.format("<IMG_CONTEXT>\n{}"), *QWEN_AFTER),
    "llava": Around("USER: <image> \n{} ASSISTANT:", "</s>", " USER: {} ASSISTANT:", ""),
    "llava_next": Around("[INST] <image> \n{} [/INST]", "</s>", " [INST] {} [/INST]", " "),
    "mllama": Around("<|begin_of_text|>" + LLAMA.format("<|image|>{}"), "<|eot_id|>", LLAMA, ""),
}
FAMILIES = pytest.mark.parametrize("family", AROUND)
TRAINING_TEMPLATES = {
    "idefics3": "smolvlm_training",
    "smolvlm": "smolvlm_training",
    "idefics3 of its own": "idefics3_training",
    "qwen2_5_vl": "qwen2_5_vl_training",
    "qwen3_vl": "qwen3_vl_training",
}


@cache
def collator(family: str, tags: str = "text") -> Collator:
    processor = PROCESSORS[family]()
    if tags == "special":
        processor.tokenizer.add_tokens(list(TAGS), special_tokens=True)
    return Collator(processor)


def test_every_family_is_looked_at() -> None:
    assert AROUND.keys() == PROCESSORS.keys()


@FAMILIES
@pytest.mark.parametrize("tags", ["text", "special"])
def test_each_token_is_the_assistants_or_not_learned(family: str, tags: str) -> None:
    before, end, between, after = AROUND[family]
    expected = [
        (False, before.format(FIRST["question"])),
        (True, FIRST["answer"] + end),
        (False, between.format(SECOND["question"])),
        (True, SECOND["answer"] + end),
        *([(False, after)] if after else []),
    ]
    found = told_apart(collator(family, tags))
    if family.startswith("llava"):  # whose tokenizer writes, and drops, a space beside each added token
        found, expected = _without_spaces(found), _without_spaces(expected)
    else:
        expected[1::2] = [(True, _space_of(family) + text) for _, text in expected[1::2]]
    assert found == expected


def _without_spaces(runs: list[tuple[bool, str]]) -> list[tuple[bool, str]]:
    return [(learned, text.replace(" ", "")) for learned, text in runs]


def _space_of(family: str) -> str:
    """What the template puts between the prompt and the answer, which the model has to say then."""
    return " " if AROUND[family].before.endswith("Assistant:") else ""


@FAMILIES
def test_what_is_learned_is_what_the_prompt_asks_for(family: str) -> None:
    """Prompt and answer of a served model are the conversation that was learned, token by token."""
    collate = collator(family)
    prompt = collate.prompts([IMAGE], [FIRST["question"]])["input_ids"][0].tolist()
    batch = collate([Chat(IMAGE, [FIRST])])
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    assert ids[: len(prompt)] == prompt
    assert labels[: len(prompt)] == [IGNORED] * len(prompt)
    end = len(labels) - next(at for at, label in enumerate(reversed(labels)) if label != IGNORED)
    assert labels[len(prompt) : end] == ids[len(prompt) : end]
    assert labels[end - 1] == collate.end_id
    assert not str(collate.tokenizer.decode(ids[end:])).strip()


@FAMILIES
def test_batches_are_labelled_as_told_apart_and_measured(family: str) -> None:
    collate = collator(family)
    chats = [CHAT, Chat(IMAGE.resize((30, 70)), [SECOND]), Chat(IMAGE.resize((64, 64)), TURNS)]
    batch = collate(chats)
    learned = batch["labels"] != IGNORED
    assert torch.equal(batch["labels"][learned], batch["input_ids"][learned])
    assert not learned[batch["attention_mask"] == 0].any()
    for row, chat in enumerate(chats):
        tokens = collate.tokens(chat.turns)
        said = [id_ for id_, is_learned in zip(tokens.ids, tokens.learned, strict=True) if is_learned]
        assert batch["labels"][row][learned[row]].tolist() == said
        assert collate.length(chat.turns, chat.image.size) == batch["attention_mask"][row].sum()


@pytest.mark.parametrize(("family", "template"), TRAINING_TEMPLATES.items())
def test_trl_learns_the_same_and_the_line_break_after_it(family: str, template: str) -> None:
    collate = collator(family)
    asked = [{"type": "image", "image": IMAGE}, {"type": "text", "text": FIRST["question"]}]
    said = [{"type": "text", "text": FIRST["answer"]}]
    chat: Any = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    theirs: Any = collate.processor.apply_chat_template(
        [chat],
        chat_template=template_of_trl(template),
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        return_assistant_tokens_mask=True,
        processor_kwargs={"add_special_tokens": False},
    )
    ours = collate([Chat(IMAGE, [FIRST])])
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    differing = (ours["labels"] != IGNORED) != torch.as_tensor(theirs["assistant_masks"]).bool()
    assert collate.tokenizer.decode(ours["input_ids"][differing]) == "\n"


def test_processors_render_as_the_tokenizer_does() -> None:
    for family in AROUND:
        collate = collator(family)
        chat: Any = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}]
        text = collate.processor.apply_chat_template(chat, add_generation_prompt=True)
        theirs = collate.processor(text=[text], images=[[IMAGE]], add_special_tokens=False, return_tensors="pt")
        assert torch.equal(collate.prompts([IMAGE], ["?"])["input_ids"], theirs["input_ids"])


TEXTS = (
    "{% for m in messages %}{% for part in m.content %}"
    "{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("<image>{{ messages | length }} messages<end_of_utterance>", "writes a conversation anew"),
        (TEXTS + "{{ '\n' }}{% endfor %}", "without a special token"),
        (TEXTS + "{{ '<end_of_utterance>' if m.role == 'assistant' }}{% endfor %}", "reach across"),
    ],
)
def test_a_template_that_hides_the_answer_is_refused(template: str, complaint: str) -> None:
    processor = PROCESSORS["idefics3"]()
    processor.chat_template = template
    with pytest.raises(ConfigError, match=complaint):
        Collator(processor).tokens([Turn(question="how many are le", answer="ft over"), FIRST])


def test_a_model_without_a_template_is_refused() -> None:
    processor = PROCESSORS["idefics3"]()
    processor.chat_template = None
    with pytest.raises(ConfigError, match="no chat template"):
        Collator(processor)


@pytest.mark.parametrize(
    ("question", "said", "found"),
    [
        ("fine", answer("2"), None),
        ("a <image> typed", answer("2"), "<image>"),
        ("a tag typed <SUMMARY>", answer("2"), "<SUMMARY>"),
        ("fine", answer("2<end_of_utterance>"), "<end_of_utterance>"),
    ],
)
def test_special_tokens_in_texts_are_found(question: str, said: str, found: str | None) -> None:
    assert collator("idefics3", "special").special_in([Turn(question=question, answer=said)]) == found


def test_image_tokens_are_counted_once_for_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    collate = Collator(PROCESSORS["qwen2_5_vl"]())
    collate.length(TURNS, (100, 60))
    monkeypatch.setattr(Image, "new", None)
    assert collate.length(TURNS, (100, 60)) > 0
