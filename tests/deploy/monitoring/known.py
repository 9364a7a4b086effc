"""Which metrics there are, and which ones a text names."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from tests.server.docs.metrics import collectors, name_of

DEPLOY = Path(__file__).parents[3] / "deploy"
SUFFIXES = {"histogram": ("", "_bucket", "_count", "_sum"), "counter": ("_total",)}
NAME = re.compile(r"(?<![\w:/.-])(?:swires_|vllm:|job[a-z_]*:swires_)[a-z0-9_:]*[a-z0-9]")
VLLMS = re.compile(r'self\._(counter|gauge|histogram)_cls\(\s*name="(vllm:\w+)"')

Json = dict[str, Any]


def rules() -> list[Json]:
    """Those that record, then alerts."""
    texts = [(DEPLOY / "prometheus" / name).read_text() for name in ("recording.yaml", "alerts.yaml")]
    return [rule for text in texts for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def ours() -> set[str]:
    """As Prometheus stores them."""
    return {
        name_of(collector).removesuffix("_total") + suffix
        for collector in collectors()
        for suffix in SUFFIXES.get(collector._type, ("",))
        if not (suffix == "_sum" and collector._kwargs["buckets"][0] < 0)  # what may sink has none
    }


def vllms() -> set[str]:
    spec = find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    source = (Path(spec.origin).parent / "v1/metrics/loggers.py").read_text()
    return {f"{name}{suffix}" for kind, name in VLLMS.findall(source) for suffix in SUFFIXES.get(kind, ("",))}


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def named(text: str) -> set[str]:
    return set(NAME.findall(text))
