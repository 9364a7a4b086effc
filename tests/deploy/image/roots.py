"""Carries out the steps of a Dockerfile without a container engine: a stage is a folder, a RUN a chroot into it."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from docker.utils.build import exclude_paths

from tests.deploy.image.stages import Config, Stage, Step, configured

ISOLATED = ("unshare", "--mount", "--pid", "--fork", "--kill-child")


@dataclass(frozen=True)
class Image:
    """`layers` are folders, the upper first, that `root` shows as one."""

    root: Path
    config: Config
    layers: tuple[Path, ...]


@dataclass
class Build:
    """`bases` are the folders that stand for images of registries, by the names of the Dockerfile."""

    folder: Path
    context: Path
    stages: Mapping[str, Stage]
    bases: dict[str, Path]
    arguments: Mapping[str, str]
    made: dict[str, Image] = field(default_factory=dict)
    mounts: list[Path] = field(default_factory=list)

    def image(self, name: str) -> Image:
        if name not in self.made:
            self.made[name] = self._make(name)
        return self.made[name]

    def _make(self, name: str) -> Image:
        stage, root = self.stages[name], self.folder / name
        before = self.image(stage.base) if stage.base in self.stages else self._base(stage.base)
        layer = self._mounted(root, before.layers)
        config = Config(**{**vars(before.config), "arguments": {}})
        for step in stage.steps:
            print(f"[{name}] {step.name.upper()} {' '.join(step.words)[:110]}", flush=True)
            self._carry_out(root, config, step)
            config = configured(config, step, self.arguments)
        return Image(root, config, (layer, *before.layers))

    def _base(self, name: str) -> Image:
        return Image(self.bases[name], Config(), (self.bases[name],))

    def _mounted(self, root: Path, layers: Sequence[Path]) -> Path:
        """Show `layers` at `root`, under a new one that takes what is written."""
        layer, work = root.with_suffix(".layer"), root.with_suffix(".work")
        for folder in (root, layer, work):
            folder.mkdir()
        options = f"lowerdir={':'.join(map(str, layers))},upperdir={layer},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", root], check=True)
        self.mounts.append(root)
        return layer

    def close(self) -> None:
        for root in self.mounts:
            subprocess.run(["umount", root], check=True)

    def _carry_out(self, root: Path, config: Config, step: Step) -> None:
        if step.name == "run":
            self._run(root, config, step)
        elif step.name == "copy":
            self._copy(root, config, step)
        elif step.name == "workdir":
            inside(root, step.words[0]).mkdir(parents=True, exist_ok=True)

    def _run(self, root: Path, config: Config, step: Step) -> None:
        binds = [self._bind(value) for name, value in step.flags if name == "mount"]
        environment = {**registry_variables(), **config.arguments, **config.env}
        run_in(root, ["/bin/sh", "-c", *step.words], environment, config.workdir, [*registry_files(), *binds])

    def _bind(self, mount: str) -> tuple[Path, str]:
        told = dict(part.split("=") for part in mount.split(","))
        assert told["type"] == "bind"
        return inside(self.image(told["from"]).root, told["source"]), told["target"]

    def _copy(self, root: Path, config: Config, step: Step) -> None:
        *sources, last = map(config.expanded, step.words)
        origin = self.image(stage).root if (stage := step.flag("from")) else self._context_copy()
        target = inside(root, str(Path(config.workdir, last)))
        for source in sources:
            found = inside(origin, source)
            if found.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                subprocess.run(["cp", "--archive", f"{found}/.", target], check=True)
            else:
                into = target / found.name if last.endswith("/") or len(sources) > 1 else target
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(found, into)

    def _context_copy(self) -> Path:
        """The context as a builder is sent it, without what .dockerignore names."""
        copy = self.folder / "context"
        if not copy.exists():
            ignored = (self.context / ".dockerignore").read_text().splitlines()
            patterns = [line for line in ignored if line and not line.startswith("#")]
            for name in exclude_paths(str(self.context), patterns):
                if (source := self.context / name).is_file():
                    (copy / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(source, copy / name)
        return copy


def inside(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def run_in(
    root: Path, command: Sequence[str], env: Mapping[str, str], workdir: str, binds: Sequence[tuple[Path, str]] = ()
) -> None:
    """As root in `root`, with this machine's network and with `binds`: paths of this machine and where they appear."""
    with mount_points(root, binds):
        lines = [
            "set -eu",
            "mount --make-rprivate /",
            f"mount -t proc proc {root}/proc",
            f"mount --rbind /dev {root}/dev",
            *(f"mount --rbind {source} {inside(root, target)}" for source, target in binds),
            f"exec chroot {root} {in_environment(env, workdir)} {shlex.join(command)}",
        ]
        subprocess.run([*ISOLATED, "sh", "-c", "\n".join(lines)], check=True, stdout=sys.stderr)


def in_environment(env: Mapping[str, str], workdir: str) -> str:
    return shlex.join(["env", "--ignore-environment", f"--chdir={workdir}", *(f"{k}={v}" for k, v in env.items())])


@contextmanager
def mount_points(root: Path, binds: Sequence[tuple[Path, str]]) -> Iterator[None]:
    """Which are gone after: an image has none of them."""
    made = []
    for source, target in binds:
        point = inside(root, target)
        for folder in reversed([*point.parents]):
            if not folder.exists():
                folder.mkdir()
                made.append(folder)
        if not point.exists():
            point.mkdir() if source.is_dir() else point.touch()
            made.append(point)
    try:
        yield
    finally:
        for path in reversed(made):
            path.rmdir() if path.is_dir() else path.unlink()


def registry_variables() -> dict[str, str]:
    """How pip and uv find packages on this machine, as whoever builds an image tells its builder."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    options = (line.split("=", 1) for line in listed.splitlines())
    told = {f"PIP_{name.partition('.')[2].replace('-', '_').upper()}": value.strip("'") for name, value in options}
    told |= {name: value for name, value in os.environ.items() if name.startswith("UV_") or name == "SSL_CERT_FILE"}
    return {name: value.replace("\\n", " ") for name, value in told.items() if name != "PIP_CONSTRAINT"}


def registry_files() -> list[tuple[Path, str]]:
    """What of this machine those variables name, and what it needs to reach a registry."""
    words = " ".join(registry_variables().values()).split()
    indexes = {Path(word.removeprefix("file://")).parent for word in words if word.startswith("file://")}
    named = {Path(word) for word in words if word.startswith("/")} | {Path("/etc/resolv.conf"), Path("/etc/ssl/certs")}
    return [(path.resolve(), str(path)) for path in sorted(indexes | named) if path.exists()]


def debian(folder: Path) -> Path:
    """What stands for python:3.12-slim-bookworm: the same Debian with its own Python, 3.11, under the names there.

    No compiler comes with it. Packages may be installed beside Debian's, as in that image.
    """
    include = "--include=ca-certificates,python3,python3-pip,python3-venv"
    subprocess.run(
        ["debootstrap", "--variant=minbase", include, "bookworm", folder], check=True, stdout=subprocess.DEVNULL
    )
    (folder / "usr" / "local" / "bin" / "python").symlink_to("/usr/bin/python3")
    for marker in folder.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        marker.unlink()
    return folder


def with_vllm(folder: Path, python: Path, packages: Path) -> Path:
    """What stands for vllm/vllm-openai: `python`, with uv, and `packages` where that image has its own."""
    subprocess.run(["cp", "--archive", python, folder], check=True)
    run_in(folder, ["pip", "install", "--quiet", "uv"], {**registry_variables(), **Config().env}, "/", registry_files())
    subprocess.run(["cp", "--archive", "--link", f"{packages}/.", packages_of(folder)], check=True)
    return folder


def packages_of(root: Path) -> Path:
    """Where pip puts packages on Debian and Ubuntu."""
    (folder,) = root.glob("usr/local/lib/python3*/dist-packages")
    return folder


def is_possible() -> bool:
    return os.geteuid() == 0 and all(map(shutil.which, ("debootstrap", *ISOLATED[:1], "chroot", "setpriv", "nsenter")))
