"""How much search a request gets: a table of the policies' numbers."""

from collections.abc import Mapping

from server.settings import PolicyName, PresetName

PRESETS: Mapping[PresetName, Mapping[PolicyName, Mapping[str, float]]] = {
    "fast": {
        "swires": {
            "captions": 2,
            "keep_captions": 1,
            "reasonings": 2,
            "keep_reasonings": 1,
            "accept_rank": 1,
            "max_retraces": 0,
        },
        "adaptive": {"max_retraces": 1},
        "stage_beam": {"candidates": 2, "keep": 1},
        "sentence_beam": {"candidates": 2},
        "best_of_n": {"candidates": 2},
        "greedy": {},
    },
    "balanced": {
        "swires": {"max_retraces": 2, "widen": 1.7},
        "adaptive": {"max_retraces": 4},
        "stage_beam": {"candidates": 4, "keep": 2},
        "sentence_beam": {"candidates": 2},
        "best_of_n": {"candidates": 4},
        "greedy": {},
    },
    "thorough": {
        "swires": {"max_retraces": 4, "widen": 1.7},
        "adaptive": {"max_retraces": 8},
        "stage_beam": {"candidates": 8, "keep": 4},
        "sentence_beam": {"candidates": 4},
        "best_of_n": {"candidates": 8},
        "greedy": {},
    },
}
"""Chosen from the curves of the demo task (training/checkpoints/demo/README.md). What a preset leaves out is as in the
released implementation of LLaVA-CoT, the policies' own defaults; that retraces are sampled wider is ours."""

MODES = ("greedy", *PRESETS)
"""What stands after the model's name in one of its aliases: no search, or one of the presets."""

EFFORTS: Mapping[str, str] = {"none": "greedy", "low": "fast", "medium": "balanced", "high": "thorough"}
"""OpenAI's `reasoning_effort` as a mode."""
