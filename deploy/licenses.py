"""Writes deploy/licenses.md, the table of the licences of what the locks pin: `make licenses`.

pip tells them from the index, for builds of any device, without installing one.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from packaging.utils import canonicalize_name

from deploy.install import LOCKS, ROOT

PIP = "pip==26.3"
TABLE = ROOT / "deploy" / "licenses.md"
PINNED = re.compile(r"^([\w.-]+)==([^ ;\\+]+)", re.MULTILINE)
ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
LONGEST = 60
"""Of what is a licence's name; some packages tell its whole text."""

CLASSIFIED = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
"""Classifiers, where a package has no expression of SPDX's, and what SPDX calls them; "BSD" leaves open which."""

NVIDIA = "LicenseRef-NVIDIA-Proprietary"
READ = {
    "compressed-tensors": "Apache-2.0",
    "cuda-toolkit": NVIDIA,
    "instanttensor": "Apache-2.0",
    "intel-cmplr-lib-ur": "LicenseRef-Intel",
    "intel-openmp": "LicenseRef-Intel",
    "kubernetes-validate": "Apache-2.0",
    "nvidia-cusparselt-cu13": NVIDIA,
    "oss-harmony": "Apache-2.0",
    "protobuf": "BSD-3-Clause",
    "quack-kernels": "Apache-2.0",
    "supervisor": "BSD",
    "tiktoken": "MIT",
    "tokenspeed-mla": "MIT",
    "torchcodec": "BSD-3-Clause",
    "torchvision": "BSD",
    "transformers": "Apache-2.0",
    "z3-solver": "MIT",
}
"""Read in what a package says in words of its own, or in the file that it brings."""

HEAD = """# Licences

Of every package that a [lock](locks) pins, as the packages tell them; `make licenses` writes this page. A test refuses
those that are not on its list.

| licence | packages |
|---|---|
"""


def main() -> None:
    TABLE.write_text(written({canonicalize_name(told["name"]): licence(told) for told in metadata()}))


def metadata() -> Iterator[dict[str, Any]]:
    """Of each package that is locked, in one of the versions that are."""
    uvx = Path(sys.executable).with_name("uvx")
    with TemporaryDirectory() as folder:
        asked, report = Path(folder, "asked.txt"), Path(folder, "report.json")
        asked.write_text("\n".join(f"{name}=={version}" for name, version in pins().items()))
        only_told = ["--dry-run", "--ignore-installed", "--no-deps", "--quiet", "--report", str(report)]
        pip = [str(uvx), "--quiet", "--from", PIP, "pip"]
        subprocess.run([*pip, "install", *only_told, "--requirement", str(asked)], check=True)
        yield from (each["metadata"] for each in json.loads(report.read_text())["install"])


def pins() -> dict[str, str]:
    """Versions by name; those of locks for the CPU, where the two differ."""
    texts = (lock.read_text() for lock in sorted(LOCKS.glob("*.txt"), reverse=True))
    return {canonicalize_name(name): version for text in texts for name, version in PINNED.findall(text)}


def licence(told: Mapping[str, Any]) -> str:
    """SPDX's expression, where a package has one, else what it says, as near to it as that allows."""
    name = canonicalize_name(told["name"])
    if name.startswith("nvidia-") and "Other/Proprietary License" in str(told.get("classifier")):
        return NVIDIA
    classified = [each.rpartition(" :: ")[2] for each in told.get("classifier", ()) if each.startswith("License ::")]
    known = " AND ".join(sorted(CLASSIFIED[each] for each in classified if each in CLASSIFIED))
    words = str(told.get("license", "")).strip()
    said = words if len(words) < LONGEST and "\n" not in words else ""
    return told.get("license_expression") or READ.get(name) or known or said or "unknown"


def written(by_package: Mapping[str, str]) -> str:
    packages = defaultdict(list)
    for name, each in sorted(by_package.items()):
        packages[each].append(name)
    return HEAD + "".join(f"| {each} | {', '.join(names)} |\n" for each, names in sorted(packages.items()))


def read() -> dict[str, str]:
    """Licences by package, as the table has them."""
    rows = ROW.findall(TABLE.read_text())[1:]
    return {name: each for each, names in rows for name in names.split(", ")}


if __name__ == "__main__":
    main()
