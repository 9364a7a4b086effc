"""How many tokens a picture becomes: in the vision tower, which sees all its patches, and in the language model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import GotOcr2ImageProcessor, PreTrainedConfig, Qwen2VLImageProcessor, SmolVLMImageProcessor

from training.config import ConfigError

HEIGHT, WIDTH = 480, 640
"""COCO's usual size; ShareGPT4V's and A-OKVQA's pictures, half of LLaVA-CoT-100k, are COCO's."""


@dataclass(frozen=True)
class Picture:
    """`attended` sums over the vision tower's layers how many patches one of them attends to. `aside` are tokens that
    language layers look at across, as Mllama's do; they are no part of the text."""

    patches: int
    attended: int
    tokens: int
    aside: int = 0


def picture(config: PreTrainedConfig, image_processor: dict[str, Any]) -> Picture:
    """Of a picture of HEIGHT x WIDTH pixels. Raises ConfigError where the architecture is not known."""
    if config.model_type not in FAMILIES:
        raise ConfigError(f"model.name: {config.model_type} is not among {', '.join(FAMILIES)}, which are estimated")
    return FAMILIES[config.model_type](config.vision_config, image_processor)


def _qwen2_5_vl(vision: PreTrainedConfig, image_processor: dict[str, Any]) -> Picture:
    patches = _qwen_patches(image_processor)
    whole = len(vision.fullatt_block_indexes)
    window = (vision.window_size // vision.patch_size) ** 2
    attended = whole * patches + (vision.depth - whole) * min(window, patches)
    return Picture(patches, attended, patches // vision.spatial_merge_size**2)


def _qwen3_vl(vision: PreTrainedConfig, image_processor: dict[str, Any]) -> Picture:
    patches = _qwen_patches(image_processor)
    return Picture(patches, vision.depth * patches, patches // vision.spatial_merge_size**2)


def _smolvlm(vision: PreTrainedConfig, image_processor: dict[str, Any]) -> Picture:
    """Tiles of 81 tokens and two of markup, and one that shows the whole."""
    tiles, _, _ = SmolVLMImageProcessor(**image_processor).get_number_of_image_patches(HEIGHT, WIDTH, {})
    return _tiled(vision, tiles, each=(vision.image_size // vision.patch_size) ** 2, shown=9**2 + 2)


def _internvl(vision: PreTrainedConfig, image_processor: dict[str, Any]) -> Picture:
    """Tiles of 256 tokens; the tower sees one token more for each."""
    split = {"crop_to_patches": image_processor.get("crop_to_patches", True)}
    tiles = GotOcr2ImageProcessor(**image_processor).get_number_of_image_patches(HEIGHT, WIDTH, split)
    side = vision.image_size[0] // vision.patch_size[0]
    return _tiled(vision, tiles, each=side**2 + 1, shown=side**2 // 4)


def _mllama(vision: PreTrainedConfig, image_processor: dict[str, Any]) -> Picture:
    """Always four tiles, empty ones too, which attend to each other; their lengths are rounded up to 8 in the tower."""
    tiles = image_processor.get("max_image_tiles", vision.max_num_tiles)
    each = (vision.image_size // vision.patch_size) ** 2 + 1
    patches = tiles * -(-each // 8) * 8
    layers = vision.num_hidden_layers + vision.num_global_layers
    return Picture(patches, layers * patches, tokens=1, aside=tiles * each)


FAMILIES: dict[str, Callable[[Any, dict[str, Any]], Picture]] = {
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "smolvlm": _smolvlm,
    "internvl": _internvl,
    "mllama": _mllama,
}


def _qwen_patches(image_processor: dict[str, Any]) -> int:
    patches = Qwen2VLImageProcessor(**image_processor).get_number_of_image_patches(HEIGHT, WIDTH, {})
    return int(patches)


def _tiled(vision: PreTrainedConfig, tiles: int, *, each: int, shown: int) -> Picture:
    return Picture(tiles * each, vision.num_hidden_layers * each, tiles * shown)
