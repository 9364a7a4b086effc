"""The file of keys, and what makes them."""

import hashlib
import logging
import stat
from pathlib import Path

import pytest

from server import keys
from server.cli import main
from server.keys import Key, KeyFile, KeysError

DIGEST = hashlib.sha256(b"one").hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def test_lines_comments_and_limits(path: Path) -> None:
    path.write_text(f"# ours\n\nann sha256:{DIGEST}\nbob@x  sha256:{DIGEST} tokens_per_minute=900 searches=2 # slow\n")
    digest = bytes.fromhex(DIGEST)
    assert keys.read(path) == (Key("ann", digest), Key("bob@x", digest, searches=2, tokens_per_minute=900))


@pytest.mark.parametrize(
    "line",
    [
        "ann",
        "ann secret",
        f"ann {DIGEST}",
        f"ann sha256:{DIGEST[:-1]}",
        f"a/b sha256:{DIGEST}",
        f"{'a' * 65} sha256:{DIGEST}",
        f"ann sha256:{DIGEST} searches=0",
        f"ann sha256:{DIGEST} searches=-1",
        f"ann sha256:{DIGEST} speed=3",
        f"ann sha256:{DIGEST} searches",
    ],
)
def test_a_line_that_is_none_is_named_by_its_number_and_not_told(path: Path, line: str) -> None:
    path.write_text(f"# first\n{line}\n")
    with pytest.raises(KeysError, match=r"line 2: ") as refused:
        keys.read(path)
    assert "secret" not in str(refused.value)
    assert DIGEST not in str(refused.value)


def test_a_file_that_cannot_be_read(path: Path) -> None:
    with pytest.raises(KeysError, match="No such file"):
        keys.read(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(KeysError, match="UTF-8"):
        keys.read(path)


def test_two_keys_of_one_label_are_refused(path: Path) -> None:
    path.write_text(f"ann sha256:{DIGEST}\nann sha256:{DIGEST[::-1]}\n")
    with pytest.raises(KeysError, match="same label"):
        keys.read(path)


def test_a_new_key_is_found_and_only_its_hash_is_kept(path: Path) -> None:
    secrets = [keys.add(path, label, limits) for label, limits in (("ann", {}), ("bob", {"searches": 3}))]
    file = KeyFile(path)
    ann, bob = map(file.find, secrets)
    assert (ann and ann.label, bob and (bob.label, bob.searches)) == ("ann", ("bob", 3))
    assert file.find("sk-swires-other") is None
    assert file.find("") is None
    assert not any(secret in path.read_text() for secret in secrets)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_line_without_an_end_is_not_run_into(path: Path) -> None:
    path.write_text(f"ann sha256:{DIGEST}")
    keys.add(path, "bob", {})
    assert [key.label for key in keys.read(path)] == ["ann", "bob"]


@pytest.mark.parametrize("label", ["ann", "with space", "", "a\nb", "ü"])
def test_a_label_that_is_taken_or_none_at_all(path: Path, label: str) -> None:
    path.write_text(f"ann sha256:{DIGEST}\n")
    with pytest.raises(KeysError):
        keys.add(path, label, {})
    assert path.read_text() == f"ann sha256:{DIGEST}\n"


def test_a_changed_file_is_read_again(path: Path) -> None:
    ann = keys.add(path, "ann", {})
    file = KeyFile(path)
    bob = keys.add(path, "bob", {})
    assert (file.find(ann), file.find(bob)) != (None, None)
    _written(path.with_suffix(".new"), path.read_text().splitlines()[1]).replace(path)
    assert file.find(ann) is None
    assert file.find(bob) is not None


def test_a_file_that_breaks_leaves_the_keys_as_they_were(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ann = keys.add(path, "ann", {})
    file = KeyFile(path)
    with caplog.at_level(logging.ERROR):
        path.write_text("half a li")
        assert file.find(ann) is not None
        path.unlink()
        assert file.find(ann) is not None
        assert file.find(ann) is not None
    assert ["stay as they were" in record.message for record in caplog.records] == [True, True]


def test_the_command_prints_a_key_that_is_known(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-key", "ann", "--api-keys", str(path), "--tokens-per-minute", "60000"]) == 0
    found = KeyFile(path).find(capsys.readouterr().out.strip())
    assert (found and found.label, found and found.tokens_per_minute) == ("ann", 60_000)
    assert main(["new-key", "ann", "--api-keys", str(path)]) == 1
    assert main(["new-key", "bob"]) == 1
    assert main(["new-key", "bob", "--api-keys", str(path), "--searches", "0"]) == 1
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 3)


def _written(path: Path, text: str) -> Path:
    path.write_text(text + "\n")
    return path
