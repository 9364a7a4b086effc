"""What an image of vLLM lacks for this server, so that nothing that it has is installed again in another version.

`lacking.py lock FILE` prints the lines of the lock whose packages are not there; `lacking.py check PROJECT` fails
unless what an installed project asks for is there, in versions that it takes.
"""

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ENTRY = re.compile(r"^([\w.-]+)==(?:.*\\\n)*.*\n?", re.MULTILINE)


def main(what: str, name: str) -> int:
    if what == "lock":
        print("".join(lacking(Path(name).read_text())), end="")
        return 0
    wrong = list(unmet(name))
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return int(bool(wrong))


def lacking(lock: str) -> Iterator[str]:
    """Entries with their hashes, as they stand in the lock."""
    return (entry[0] for entry in ENTRY.finditer(lock) if version_of(entry[1]) is None)


def unmet(project: str) -> Iterator[str]:
    """A line for each thing that it asks for, without extras, and does not find."""
    for requirement in map(Requirement, metadata.requires(project) or ()):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = version_of(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            yield f"{project} asks for {requirement}, here is {version or 'none'}"


def version_of(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
