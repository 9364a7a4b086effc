"""Tiny random checkpoints of seven model families, made without a network in about a second each.

Each differs from its family's real ones in size alone: its own processor, special tokens, chat template, end tokens and
kind of tokenizer; nothing in it knows of stages.
"""

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    CLIPImageProcessor,
    GenerationConfig,
    GotOcr2ImageProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaImageProcessor,
    MllamaProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from training.tasks.scenes import scenes

VOCABULARY = 600
HIDDEN, HEADS = 64, 2
CONTEXT = 1024
TEXT = {
    "hidden_size": HIDDEN,
    "intermediate_size": 2 * HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "max_position_embeddings": CONTEXT,
}
VISION = {"hidden_size": HIDDEN, "intermediate_size": 2 * HIDDEN}

Parts = tuple[PreTrainedModel, ProcessorMixin]


def write(family: str, folder: Path, *, seed: int = 0) -> Path:
    """Write a checkpoint of one of FAMILIES into `folder`, which is returned."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, processor = FAMILIES[family]()
    model.save_pretrained(folder)
    _name_as_published(folder / "model.safetensors")
    processor.save_pretrained(folder)
    return folder


def _name_as_published(weights: Path) -> None:
    """CLIP's part of LLaVA has one level more there; transformers keeps a name that it has read, and makes none so."""
    named = {
        re.sub(r"^vision_tower\.", "vision_tower.vision_model.", name): w for name, w in load_file(weights).items()
    }
    save_file(named, weights, {"format": "pt"})


TILE, PATCH, SHUFFLE = 32, 8, 2
TILES: dict[str, Any] = {"size": {"longest_edge": 2 * TILE}, "max_image_size": {"longest_edge": TILE}}


def _idefics3() -> Parts:
    """An image is cut into four tiles, and one shows it as a whole."""
    tokenizer = _idefics3_tokenizer()
    processor = Idefics3Processor(
        Idefics3ImageProcessor(**TILES),
        tokenizer,
        image_seq_len=(TILE // PATCH // SHUFFLE) ** 2,
        chat_template=_template_of_trl("smolvlm"),
    )
    config = Idefics3Config(**_idefics3_config(tokenizer))
    return _model(Idefics3ForConditionalGeneration, config, tokenizer), processor


def _smolvlm() -> Parts:
    """As SmolVLM2: Idefics3 with videos."""
    tokenizer = _idefics3_tokenizer(
        fake_image_token="<fake_token_around_image>",
        image_token="<image>",
        global_image_token="<global-img>",
        end_of_utterance_token="<end_of_utterance>",
        video_token="<video>",
    )
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(**TILES),
        tokenizer,
        SmolVLMVideoProcessor(),
        image_seq_len=(TILE // PATCH // SHUFFLE) ** 2,
        chat_template=_template_of_trl("smolvlm"),
    )
    config = SmolVLMConfig(**_idefics3_config(tokenizer))
    return _model(SmolVLMForConditionalGeneration, config, tokenizer), processor


def _idefics3_tokenizer(**named: str) -> PreTrainedTokenizerFast:
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    pad, end = "<|im_end|>", "<end_of_utterance>"
    image_tokens = ["<fake_token_around_image>", "<image>", "<global-img>"]
    return _byte_level(["<|im_start|>", pad, end, *image_tokens, *tiles], pad=pad, end=end, named=named)


def _idefics3_config(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "image_token_id": _id(tokenizer, "<image>"),
        "pad_token_id": tokenizer.pad_token_id,
        "scale_factor": SHUFFLE,
        "vision_config": {
            **VISION,
            "num_hidden_layers": 2,
            "num_attention_heads": HEADS,
            "image_size": TILE,
            "patch_size": PATCH,
        },
        "text_config": {"model_type": "llama", **_text(tokenizer)},
    }


def _internvl() -> Parts:
    """As InternVL3 in transformers' own form: one tile, of which four patches make a token."""
    tokenizer = _qwen_tokenizer(
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    config = InternVLConfig(
        image_token_id=_id(tokenizer, "<IMG_CONTEXT>"),
        image_seq_length=(TILE // PATCH // SHUFFLE) ** 2,
        vision_config={
            **VISION,
            "num_hidden_layers": 2,
            "num_attention_heads": HEADS,
            "image_size": [TILE, TILE],
            "patch_size": [PATCH, PATCH],
        },
        text_config={"model_type": "qwen2", **_text(tokenizer)},
    )
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size={"height": TILE, "width": TILE}),
        tokenizer,
        InternVLVideoProcessor(),
        image_seq_length=(TILE // PATCH // SHUFFLE) ** 2,
        chat_template=_template_of_trl("qwen2_5_vl").replace(
            "<|vision_start|><|image_pad|><|vision_end|>", "<IMG_CONTEXT>\n"
        ),
    )
    return _model(InternVLForConditionalGeneration, config, tokenizer), processor


def _qwen2_5_vl() -> Parts:
    tokenizer = _qwen_tokenizer()
    config = Qwen2_5_VLConfig(
        **_qwen_ids(tokenizer),
        vision_config={
            **VISION,
            "depth": 2,
            "num_heads": HEADS,
            "fullatt_block_indexes": [1],
            "out_hidden_size": HIDDEN,
        },
        text_config={
            **_text(tokenizer),
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]},
        },
    )
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(),
        tokenizer,
        Qwen2VLVideoProcessor(),
        chat_template=_template_of_trl("qwen2_5_vl"),
    )
    return _model(Qwen2_5_VLForConditionalGeneration, config, tokenizer, "<|endoftext|>"), processor


def _qwen3_vl() -> Parts:
    tokenizer, patch = _qwen_tokenizer(), 16
    config = Qwen3VLConfig(
        **_qwen_ids(tokenizer),
        tie_word_embeddings=True,
        vision_config={
            **VISION,
            "depth": 2,
            "num_heads": HEADS,
            "patch_size": patch,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
            "out_hidden_size": HIDDEN,
        },
        text_config={
            **_text(tokenizer),
            "head_dim": HIDDEN // HEADS,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
        },
    )
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(patch_size=patch, size={"shortest_edge": 64**2, "longest_edge": 128**2}),
        tokenizer,
        Qwen3VLVideoProcessor(patch_size=patch),
        chat_template=_template_of_trl("qwen3_vl"),
    )
    return _model(Qwen3VLForConditionalGeneration, config, tokenizer, "<|endoftext|>"), processor


def _llava() -> Parts:
    """As LLaVA-1.5: a CLIP tower, and a tokenizer of words that writes a space as a character of its own."""
    side, patch = 32, 8
    tokenizer = _llama_tokenizer(["<pad>", "<image>"], pad="<pad>")
    config = LlavaConfig(
        image_token_index=_id(tokenizer, "<image>"),
        image_seq_length=(side // patch) ** 2,
        vision_feature_layer=-2,
        vision_config={
            **VISION,
            "model_type": "clip_vision_model",
            "num_hidden_layers": 3,
            "num_attention_heads": HEADS,
            "image_size": side,
            "patch_size": patch,
            "projection_dim": HIDDEN,
        },
        text_config={"model_type": "llama", **_text(tokenizer)},
    )
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}),
        tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    return _model(LlavaForConditionalGeneration, config, tokenizer), processor


def _mllama() -> Parts:
    """As Llama 3.2 Vision: the image token is the first id beyond the language model's head."""
    side, patch = 28, 14
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>"]
    reserved = [f"<|reserved_special_token_{number}|>" for number in range(16)]
    pad, end = "<|finetune_right_pad_id|>", "<|eot_id|>"
    special = [*special, end, pad, "<|python_tag|>", *reserved]
    tokenizer = _byte_level(special, pad=pad, end=end, begin="<|begin_of_text|>")
    text = {**_text(tokenizer), "num_hidden_layers": 3, "cross_attention_layers": [1]}
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|image|>"]})
    config = MllamaConfig(
        image_token_index=_id(tokenizer, "<|image|>"),
        vision_config={
            **VISION,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": HEADS,
            "intermediate_layers_indices": [0],
            "vision_output_dim": 2 * HIDDEN,
            "image_size": side,
            "patch_size": patch,
        },
        text_config=text,
    )
    image_processor = MllamaImageProcessor(size={"height": side, "width": side})
    processor = MllamaProcessor(image_processor, tokenizer, chat_template=LLAMA_TEMPLATE)
    model = _model(MllamaForConditionalGeneration, config, tokenizer, "<|end_of_text|>", "<|eom_id|>")
    _open_gates(model)
    return model, processor


def _open_gates(model: PreTrainedModel) -> None:
    """They are shut at the start of pretraining, and no image would be seen."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if re.search(r"gate(_attn|_ffn)?$", name):
                weight.fill_(1.0)


FAMILIES: dict[str, Callable[[], Parts]] = {
    "idefics3": _idefics3,
    "smolvlm": _smolvlm,
    "internvl": _internvl,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "llava": _llava,
    "mllama": _mllama,
}


LLAVA_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %}ASSISTANT: {% elif message.role == 'user' %}USER: {% endif %}"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content if part.type == 'image' %}<image>\n{% endfor %}"
    "{% for part in message.content if part.type == 'text' %}{{ part.text }}{% endfor %}"
    "{% endif %}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% else %} {% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)

LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{% if part.type == 'image' %}<|image|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|eot_id|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


def _template_of_trl(name: str) -> str:
    return resources.files("trl").joinpath("chat_templates", f"{name}.jinja").read_text()


def _qwen_tokenizer(**named: str) -> PreTrainedTokenizerFast:
    vision = ["<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *vision]
    return _byte_level(special, pad="<|endoftext|>", end="<|im_end|>", named=named)


def _qwen_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "image_token_id": _id(tokenizer, "<|image_pad|>"),
        "video_token_id": _id(tokenizer, "<|video_pad|>"),
        "vision_start_token_id": _id(tokenizer, "<|vision_start|>"),
        "vision_end_token_id": _id(tokenizer, "<|vision_end|>"),
    }


def _byte_level(
    special: Sequence[str], *, pad: str, end: str, begin: str | None = None, named: Mapping[str, str] | None = None
) -> PreTrainedTokenizerFast:
    """Begins a text with `begin` where that is given, as Llama 3 does; `named` tokens are attributes too."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(_texts(), trainer)
    bpe.add_special_tokens(list(special))
    if begin is not None:
        bpe.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, bpe.token_to_id(begin))]
        )
    return _fast(bpe, bos_token=begin, eos_token=end, pad_token=pad, extra_special_tokens=dict(named or {}))


def _llama_tokenizer(special: Sequence[str], *, pad: str) -> PreTrainedTokenizerFast:
    """As SentencePiece makes it: a space before the first word, unknown characters as bytes."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # for learning alone: no piece spans words
    named = ["<unk>", "<s>", "</s>"]
    spelled = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[*named, *spelled], show_progress=False, max_token_length=12
    )
    bpe.train_from_iterator(_texts(), trainer)
    trained = json.loads(bpe.to_str())["model"]
    merges = [(left, right) for left, right in trained["merges"]]
    llama = Tokenizer(models.BPE(trained["vocab"], merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    llama.normalizer = bpe.normalizer
    llama.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    llama.add_special_tokens([*named, *special])
    llama.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return _fast(llama, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token=pad)


def _fast(tokenizer: Tokenizer, **names: str | dict[str, str] | None) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=CONTEXT, **names)


@cache
def _texts() -> tuple[str, ...]:
    examples = itertools.islice(scenes(0), 200)
    return *(["1 + 1 - 1"] * 100), *(
        text for example in examples for text in (example.question, *example.stages.values())
    )


def _text(tokenizer: PreTrainedTokenizerFast) -> dict[str, object]:
    return {
        **TEXT,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _model(
    kind: type[PreTrainedModel], config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast, *ends: str
) -> PreTrainedModel:
    """`ends` are the tokens beside the tokenizer's own that end an answer."""
    model = kind(config)
    end_ids = [_id(tokenizer, end) for end in (str(tokenizer.eos_token), *ends)]
    model.generation_config = GenerationConfig(
        do_sample=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=end_ids if ends else end_ids[0],
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def _id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    found = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(found, int)
    return found
