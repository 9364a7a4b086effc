"""The sizes of the published checkpoints that the configs train, as configs of transformers that need no hub.

Source: `config.json` and `preprocessor_config.json` at https://huggingface.co/NAME; `parameters` is what the hub says
of the checkpoint's safetensors. That a model built from these sizes has exactly so many is a test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import (
    InternVLConfig,
    MllamaConfig,
    PreTrainedConfig,
    Qwen2_5_VLConfig,
    Qwen3VLConfig,
    SmolVLMConfig,
)


@dataclass(frozen=True)
class Architecture:
    """`image_processor` has the fields that say how many tokens a picture becomes."""

    config: PreTrainedConfig
    image_processor: dict[str, Any]
    parameters: int


def qwen2_5_vl_3b() -> Architecture:
    text = {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36}
    heads = {"num_attention_heads": 16, "num_key_value_heads": 2, "vocab_size": 151936}
    return Architecture(_qwen2_5_vl({**text, **heads}, tied=True), QWEN2_5_PICTURES, 3_754_622_976)


def qwen2_5_vl_7b() -> Architecture:
    text = {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28}
    heads = {"num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064}
    return Architecture(_qwen2_5_vl({**text, **heads}, tied=False), QWEN2_5_PICTURES, 8_292_166_656)


def qwen3_vl_4b() -> Architecture:
    text = {"hidden_size": 2560, "intermediate_size": 9728}
    vision = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "deepstack_visual_indexes": [5, 11, 17]}
    return Architecture(_qwen3_vl(text, vision, tied=True), QWEN3_PICTURES, 4_437_815_808)


def qwen3_vl_8b() -> Architecture:
    text = {"hidden_size": 4096, "intermediate_size": 12288}
    vision = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "deepstack_visual_indexes": [8, 16, 24]}
    return Architecture(_qwen3_vl(text, vision, tied=False), QWEN3_PICTURES, 8_767_123_696)


def smolvlm2_2_2b() -> Architecture:
    text = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24, "num_attention_heads": 32}
    vision = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
    config = SmolVLMConfig(
        scale_factor=3,
        text_config={"model_type": "llama", **text, "num_key_value_heads": 32, "vocab_size": 49280},
        vision_config={**vision, "image_size": 384, "patch_size": 14},
    )
    pictures = {"size": {"longest_edge": 1536}, "max_image_size": {"longest_edge": 384}}
    return Architecture(config, pictures, 2_246_784_880)


def internvl3_8b() -> Architecture:
    text = {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28}
    config = InternVLConfig(
        tie_word_embeddings=False,
        text_config={"model_type": "qwen2", **text, "num_key_value_heads": 4, "vocab_size": 151674},
        vision_config={"attention_bias": True, "image_size": [448, 448], "patch_size": [14, 14]},
    )
    pictures = {"size": {"height": 448, "width": 448}, "min_patches": 1, "max_patches": 12}
    return Architecture(config, pictures, 7_944_373_760)


def llama_3_2_11b_vision() -> Architecture:
    config = MllamaConfig(vision_config={"image_size": 560}, text_config={})  # all else is transformers' default
    return Architecture(config, {}, 10_670_220_835)


PUBLISHED: dict[str, Callable[[], Architecture]] = {
    "Qwen/Qwen2.5-VL-3B-Instruct": qwen2_5_vl_3b,
    "Qwen/Qwen2.5-VL-7B-Instruct": qwen2_5_vl_7b,
    "Qwen/Qwen3-VL-4B-Instruct": qwen3_vl_4b,
    "Qwen/Qwen3-VL-8B-Instruct": qwen3_vl_8b,
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": smolvlm2_2_2b,
    "OpenGVLab/InternVL3-8B-hf": internvl3_8b,
    "meta-llama/Llama-3.2-11B-Vision-Instruct": llama_3_2_11b_vision,
}

QWEN2_5_PICTURES = {"patch_size": 14, "size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 16384}}
QWEN3_PICTURES = {"patch_size": 16, "size": {"shortest_edge": 256 * 256, "longest_edge": 4096 * 4096}}


def _qwen2_5_vl(text: dict[str, Any], *, tied: bool) -> PreTrainedConfig:
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "window_size": 112}
    return Qwen2_5_VLConfig(
        tie_word_embeddings=tied,
        text_config={**text, "tie_word_embeddings": tied, "rope_parameters": rope},
        vision_config={
            **vision,
            "fullatt_block_indexes": [7, 15, 23, 31],
            "patch_size": 14,
            "out_hidden_size": text["hidden_size"],
        },
    )


def _qwen3_vl(text: dict[str, Any], vision: dict[str, Any], *, tied: bool) -> PreTrainedConfig:
    heads = {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
    return Qwen3VLConfig(
        tie_word_embeddings=tied,
        text_config={
            **text,
            **heads,
            "num_hidden_layers": 36,
            "vocab_size": 151936,
            "tie_word_embeddings": tied,
        },
        vision_config={
            **vision,
            "num_heads": 16,
            "patch_size": 16,
            "num_position_embeddings": 2304,
            "out_hidden_size": text["hidden_size"],
        },
    )
