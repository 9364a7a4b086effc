"""The chart as helm renders it, and what its manifests say."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy" / "helm" / "swires"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))

Manifest: TypeAlias = dict[str, Any]


def helm() -> str | None:
    beside = Path(sys.executable).parent / "helm"
    return str(beside) if beside.exists() else shutil.which("helm")


def run_helm(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Without what helm of this user may be set to."""
    environment = {**os.environ, "HELM_CACHE_HOME": "/nonexistent", "HELM_CONFIG_HOME": "/nonexistent"}
    return subprocess.run([helm() or "helm", *arguments], env=environment, capture_output=True, text=True, check=False)


def template(*arguments: str, chart: Path = CHART) -> "subprocess.CompletedProcess[str]":
    """A release called search, in the namespace vision."""
    return run_helm("template", "search", str(chart), "--namespace", "vision", *arguments)


@dataclass(frozen=True)
class Rendered:
    """The manifests of one file of values."""

    values: Path

    @cached_property
    def manifests(self) -> list[Manifest]:
        told = template("--values", str(self.values))
        assert told.returncode == 0, told.stderr
        return [manifest for manifest in yaml.safe_load_all(told.stdout) if manifest]

    def of(self, *kinds: str) -> list[Manifest]:
        return [manifest for manifest in self.manifests if manifest["kind"] in kinds]

    def one(self, kind: str, name: str) -> Manifest:
        (found,) = (manifest for manifest in self.of(kind) if manifest["metadata"]["name"] == name)
        return found

    def pods(self) -> Iterator[tuple[str, Manifest]]:
        """The templates of pods, by the name of what makes them."""
        for manifest in self.manifests:
            name = manifest["metadata"]["name"]
            spec = manifest.get("spec", {})
            if manifest["kind"] == "LeaderWorkerSet":
                yield f"{name} leader", spec["leaderWorkerTemplate"]["leaderTemplate"]
                yield f"{name} worker", spec["leaderWorkerTemplate"]["workerTemplate"]
            elif "template" in spec:
                yield name, spec["template"]

    def containers(self) -> Iterator[tuple[Manifest, Manifest]]:
        """All, each with its pod's spec."""
        for _, pod in self.pods():
            spec = pod["spec"]
            for container in (*spec.get("initContainers", ()), *spec["containers"]):
                yield spec, container


def variables(container: Mapping[str, Any]) -> dict[str, str | None]:
    """By name; None is of those that come from elsewhere."""
    return {variable["name"]: variable.get("value") for variable in container.get("env", ())}


def labels(pod: Mapping[str, Any]) -> dict[str, str]:
    return dict(pod["metadata"]["labels"])


def selects(selector: Mapping[str, str], pod: Mapping[str, Any]) -> bool:
    return selector.items() <= labels(pod).items()
