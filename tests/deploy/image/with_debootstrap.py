"""The `cpu` image made and run without a container engine: `make test-image` names this file; `make test` does not.

Its steps are read from the Dockerfile and carried out in roots of their own. In place of python:3.12-slim-bookworm,
which no registry of packages holds, stands the same Debian, by debootstrap, with its own Python 3.11.
"""

import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from server.serve import bound
from tests.conftest import DEMO
from tests.deploy.image import roots, stages
from tests.deploy.image.container import Container, started
from tests.deploy.image.roots import Build, Image
from tests.deploy.image.stages import Config

ROOT = Path(__file__).parents[3]
GIVEN = {"PYTHON_IMAGE": "debian-with-python", "VLLM_IMAGE": "vllm", "VERSION": "1.2.3", "REVISION": "0123abc"}
QUESTION = "Remove all green objects. How many objects are left?"
STAGES = ["SUMMARY", "CAPTION", "REASONING", "CONCLUSION"]
COMPILERS = ("gcc", "g++", "cc", "c++", "clang", "clang++", "as", "ld", "rustc", "nvcc")
MISSING = "pydantic-settings"
HEALTHY_S = 300
ENDED_S = 120


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    assert roots.is_possible(), "it takes root, debootstrap, and what Debian has in util-linux"
    with tempfile.TemporaryDirectory(prefix="image-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def build(folder: Path) -> Iterator[Build]:
    start = time.monotonic()
    python = roots.debian(folder / "debian")
    print(f"\nDebian with its own Python: {time.monotonic() - start:.0f} s")
    build = Build(folder, ROOT, stages.read(ROOT / "Dockerfile", GIVEN), {"debian-with-python": python}, GIVEN)
    yield build
    build.close()


@pytest.fixture(scope="module")
def cpu(build: Build) -> Image:
    start = time.monotonic()
    image = build.image("cpu")
    size = subprocess.run(["du", "-sm", image.root], capture_output=True, text=True, check=True).stdout.split()[0]
    print(f"the image: {time.monotonic() - start:.0f} s, {size} MiB")
    return image


@pytest.fixture(scope="module")
def vllm(build: Build, folder: Path) -> Path:
    """With the packages of the `cpu` image in place of the like for GPUs, and one of them missing."""
    (packages,) = build.image("cpu-dependencies").layers[0].glob("opt/swires/lib/python3*/site-packages")
    root = roots.with_vllm(folder / "vllm", build.bases["debian-with-python"], packages)
    for path in roots.packages_of(root).glob(f"{MISSING.replace('-', '_')}*"):
        shutil.rmtree(path)
    return root


@pytest.fixture(scope="module")
def container(cpu: Image, folder: Path) -> Iterator[Container]:
    with bound("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
    start = time.monotonic()
    with started(cpu, {"PORT": str(port), "SWIRES_ALLOW_NO_KEYS": "true"}, folder / "log") as container:
        try:
            container.wait_until_healthy(HEALTHY_S)
        except AssertionError:
            print((folder / "log").read_text())
            raise
        print(f"healthy after {time.monotonic() - start:.0f} s")
        yield container


@pytest.fixture
def client(container: Container) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{container.env['PORT']}", timeout=ENDED_S) as client:
        yield client


def body(**fields: object) -> dict[str, object]:
    image = "data:image/png;base64," + base64.b64encode((DEMO / "example.png").read_bytes()).decode()
    parts = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": QUESTION}]
    return {"model": "demo", "messages": [{"role": "user", "content": parts}], **fields}


def test_no_compiler_is_in_it(cpu: Image) -> None:
    path = cpu.config.env["PATH"]
    assert [name for name in COMPILERS if shutil.which(name, path=_in(cpu, path))] == []


def _in(image: Image, path: str) -> str:
    return ":".join(str(roots.inside(image.root, each)) for each in path.split(":"))


def test_it_tells_what_it_was_made_from(cpu: Image) -> None:
    named = {name.rpartition("image.")[2]: value for name, value in cpu.config.labels.items()}
    assert (named["version"], named["revision"]) == ("1.2.3", "0123abc")
    assert named["base.name"] == GIVEN["PYTHON_IMAGE"]


def test_the_packages_of_vllms_image_stay_as_they_are(build: Build, vllm: Path) -> None:
    build.bases["vllm"] = vllm
    root = build.image("gpu").root
    listed = ["find", ".", "-not", "-name", "*.pyc", "-not", "-name", "__pycache__", "-printf", "%p %s %T@\\n"]
    before, after = (
        subprocess.run(listed, cwd=roots.packages_of(each), capture_output=True, text=True, check=True).stdout
        for each in (vllm, root)
    )
    assert sorted(before.splitlines()) == sorted(after.splitlines())
    (added,) = root.glob("opt/swires/lib/python3*/site-packages")
    assert {path.name.partition("-")[0] for path in added.glob("*.dist-info")} == {"swires", MISSING.replace("-", "_")}
    roots.run_in(root, ["/opt/swires/bin/python", "-c", "import server.engine.vllm_engine"], Config().env, "/")


def test_its_first_process_is_the_server_without_rights(container: Container) -> None:
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{container.pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert status["NSpid"].split()[-1] == "1"
    assert status["Name"] == "swires"
    assert set(status["Uid"].split()) == {"2000"}
    assert set(status["Gid"].split()) == {"0"}
    assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == {0}


def test_nothing_but_its_volumes_can_be_written(container: Container) -> None:
    mounts = [line.split() for line in Path(f"/proc/{container.pid}/mounts").read_text().splitlines()]
    assert [options.split(",")[0] for _, point, _, options, *_ in mounts if point == "/"] == ["ro"]
    assert "Read-only" in container.execute("touch", "/home/vllm/file").stderr
    for volume in container.image.config.volumes:
        assert container.execute("touch", f"{volume}/file").returncode == 0


def test_it_answers(client: httpx.Client) -> None:
    reply = client.post("/v1/chat/completions", json=body(temperature=0))
    assert reply.status_code == 200, reply.text
    answer = reply.json()
    assert answer["choices"][0]["message"]["content"] == "4"
    assert [stage["stage"] for stage in answer["swires"]["stages"]] == STAGES


def test_a_search_that_streams_when_it_is_stopped_finishes(container: Container, client: httpx.Client) -> None:
    """The last test: the container is gone after."""
    asked = body(stream=True, swires={"policy": "best_of_n", "candidates": 32})
    with client.stream("POST", "/v1/chat/completions", json=asked) as reply:
        lines = reply.iter_lines()
        begun = [next(lines)]
        container.stop()
        begun += [line for line in lines if line]
    assert begun[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in begun if line.startswith("data: {")]
    assert [each["finish_reason"] for chunk in chunks for each in chunk["choices"] if each["finish_reason"]] == ["stop"]
    assert container.process.wait(ENDED_S) == 0
