"""What a client may choose from, told beside the models."""

from collections.abc import Mapping
from typing import Any, get_args

from server.settings import PolicyName, PresetName, Settings
from swires.policies import POLICIES
from swires.protocols import Scorer


def offers(settings: Settings, scorers: Mapping[str, Scorer]) -> dict[str, Any]:
    """The defaults, and the names that there are; of a scorer, the policies that it serves."""
    return {
        "policy": settings.policy,
        "preset": settings.preset,
        "policies": get_args(PolicyName),
        "presets": get_args(PresetName),
        "scorers": {name: _served(scorer) for name, scorer in scorers.items()},
    }


def _served(scorer: Scorer) -> list[str]:
    return [name for name, policy in POLICIES.items() if not (scorer.ranks and policy.thresholds)]
