"""The file of API keys: of each its label, its hash and what it may use. A key itself is told once, when it is made."""

import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from swires.errors import SwiresError

PREFIX = "sk-swires-"
LABEL = re.compile(r"[\w.@-]{1,64}", re.ASCII)
LIMIT = re.compile(r"(searches|tokens_per_minute)=([1-9]\d{0,17})", re.ASCII)
LINE = re.compile(
    rf"(?P<label>{LABEL.pattern})\s+sha256:(?P<digest>[0-9a-f]{{64}})(?P<limits>(\s+{LIMIT.pattern})*)", re.ASCII
)

Version: TypeAlias = tuple[int, int, int] | None

logger = logging.getLogger(__name__)


class KeysError(SwiresError):
    """The file of keys cannot be used, in one line."""


@dataclass(frozen=True, slots=True)
class Key:
    """A limit of None is the server's."""

    label: str
    digest: bytes
    searches: int | None = None
    tokens_per_minute: int | None = None


class KeyFile:
    """The keys of a file as it is at the moment; one that has become unreadable leaves the keys as they were."""

    def __init__(self, path: Path) -> None:
        """Raises KeysError."""
        self._path = path
        self._version = _version(path)
        self._keys = read(path)

    def find(self, secret: str) -> Key | None:
        """In a time that tells nothing of which key is how nearly right."""
        self._refresh()
        digest = _digest(secret)
        found = [key for key in self._keys if hmac.compare_digest(key.digest, digest)]
        return found[0] if found else None

    def _refresh(self) -> None:
        version = _version(self._path)
        if version == self._version:
            return
        self._version = version
        try:
            self._keys = read(self._path)
        except KeysError as error:
            logger.error("%s; the keys stay as they were", error)
        else:
            logger.info("%s: %s keys", self._path, len(self._keys))


def read(path: Path) -> tuple[Key, ...]:
    """Lines of `LABEL sha256:HEX [searches=N] [tokens_per_minute=N]`, empty ones and comments (#) apart.

    Raises KeysError.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text in UTF-8"
        raise KeysError(f"{path}: {reason}") from error
    texts = (line.partition("#")[0].strip() for line in lines)
    keys = tuple(_key(path, number, text) for number, text in enumerate(texts, 1) if text)
    if len({key.label for key in keys}) < len(keys):
        raise KeysError(f"{path}: two keys have the same label")
    return keys


def _key(path: Path, number: int, text: str) -> Key:
    line = LINE.fullmatch(text)
    if line is None:
        raise KeysError(f"{path}, line {number}: is not LABEL sha256:HEX [searches=N] [tokens_per_minute=N]")
    limits = {name: int(value) for name, value in LIMIT.findall(line["limits"])}
    return Key(line["label"], bytes.fromhex(line["digest"]), **limits)


def add(path: Path, label: str, limits: Mapping[str, int]) -> str:
    """Make a key and append its hash to the file, which is made if need be. Raises KeysError."""
    if not LABEL.fullmatch(label):
        raise KeysError(f"{label!r}: a label is up to 64 letters, digits and . _ @ -")
    if path.exists() and label in {key.label for key in read(path)}:
        raise KeysError(f"{path}: {label} has a key already")
    secret = PREFIX + secrets.token_urlsafe(32)
    words = [label, f"sha256:{_digest(secret).hex()}", *(f"{name}={limit}" for name, limit in limits.items())]
    try:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "r+b") as file:
            content = file.read()
            file.write(b"\n" * (bool(content) and not content.endswith(b"\n")) + " ".join(words).encode() + b"\n")
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}") from error
    return secret


def _digest(secret: str) -> bytes:
    """A key has 256 random bits, so that no slower hash is needed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _version(path: Path) -> Version:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
