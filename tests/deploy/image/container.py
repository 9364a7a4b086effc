"""An image's container without a container engine: its own processes and mounts, an unprivileged user, nothing to write
to but its volumes."""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.image.roots import ISOLATED, Image, in_environment, inside

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
SHARED_MEMORY = "1g"
"""As the page on the images tells to ask for; Docker's own 64 MiB are too few for vLLM on a CPU."""
STOP_S = 60


@dataclass(frozen=True)
class Container:
    image: Image
    process: subprocess.Popen[bytes]
    env: Mapping[str, str]

    @property
    def pid(self) -> int:
        """Of its first process, as this machine numbers it; it comes a moment after `process`."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        while not (found := children.read_text().split()):
            assert self.process.poll() is None, "it has ended"
            time.sleep(0.01)
        return int(found[0])

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """As `docker exec` would."""
        entered = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--root"]
        within = shlex.split(unprivileged(self.image, self.env))
        return subprocess.run([*entered, *within, *command], capture_output=True, text=True, check=False)

    def is_healthy(self) -> bool:
        healthcheck = self.image.config.healthcheck
        assert healthcheck is not None
        return self.execute(*healthcheck.words[1:]).returncode == 0

    def wait_until_healthy(self, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while not self.is_healthy():
            assert self.process.poll() is None, "it has ended"
            assert time.monotonic() < deadline, "it does not become healthy"
            time.sleep(1)

    def stop(self) -> None:
        os.kill(self.pid, getattr(signal, self.image.config.stop_signal))


@contextmanager
def started(image: Image, env: Mapping[str, str], log: Path) -> Iterator[Container]:
    whole = {**image.config.env, **env}
    with log.open("wb") as out:
        process = subprocess.Popen([*ISOLATED, "--ipc", "sh", "-c", script(image, whole)], stdout=out, stderr=out)
    try:
        yield Container(image, process, whole)
    finally:
        process.kill()
        process.wait(STOP_S)


def script(image: Image, env: Mapping[str, str]) -> str:
    """What runs where nobody else sees its mounts, and becomes the container's first process."""
    root, devices = image.root, image.root / "dev"
    lines = [
        "set -eu",
        "mount --make-rprivate /",
        f"mount --bind {root} {root}",
        f"mount -t proc proc {root}/proc",
        f"mount -t sysfs -o ro sysfs {root}/sys",
        f"mount -t tmpfs -o mode=755 devices {devices}",
        *(f"touch {devices}/{name} && mount --bind /dev/{name} {devices}/{name}" for name in DEVICES),
        f"ln -s /proc/self/fd {devices}/fd && mkdir {devices}/shm",
        f"mount -t tmpfs -o size={SHARED_MEMORY},mode=1777 shm {devices}/shm",
        *(mounted(root, volume) for volume in image.config.volumes),
        f"mount -o remount,bind,ro {root}",
        f"exec chroot {root} {unprivileged(image, env)} {shlex.join(image.config.entrypoint + image.config.command)}",
    ]
    return "\n".join(lines)


def mounted(root: Path, volume: str) -> str:
    """A new volume has the owner and the mode of the folder in the image."""
    has = inside(root, volume).stat()
    return f"mount -t tmpfs -o mode={has.st_mode & 0o7777:o},uid={has.st_uid},gid={has.st_gid} v {inside(root, volume)}"


def unprivileged(image: Image, env: Mapping[str, str]) -> str:
    uid, gid = image.config.user.split(":")
    become = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs"]
    without = ["--bounding-set=-all", "--inh-caps=-all"]
    return f"{shlex.join([*become, *without])} {in_environment(env, image.config.workdir)}"
