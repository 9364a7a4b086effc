import tracemalloc
from pathlib import Path

import pytest

from tests.training.data.records import record, write
from training.data.record import Record
from training.data.rejection import Rejected
from training.data.stream import AHEAD, read, stream


def test_lines_keep_their_numbers_and_bytes(tmp_path: Path) -> None:
    file = tmp_path / "with [brackets]*.jsonl"
    file.write_bytes(b'\n{"a": "\xff\x0b\r"}\n  \r\nlast \xe2\x80\xa8 line')
    rows = [(row["line"], row["text"]) for row in stream([file])]
    assert rows == [(2, b'{"a": "\xff\x0b\r"}\n'), (4, b"last \xe2\x80\xa8 line")]


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    assert list(read(write(tmp_path / "empty.jsonl", []))) == []


def test_a_stream_shards_by_file_and_goes_on_where_it_was(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{name}.jsonl", [[name, number] for number in range(3)]) for name in "ab"]
    rows = stream(files)
    assert [row["text"] for row in rows.shard(2, 1)] == [b'["b", 0]\n', b'["b", 1]\n', b'["b", 2]\n']
    running = iter(rows)
    before = [next(running) for _ in range(4)]
    later = stream(files)
    later.load_state_dict(rows.state_dict())
    assert [*before, *later] == list(stream(files))


def test_a_bad_line_does_not_end_the_stream(tmp_path: Path) -> None:
    lines = read(write(tmp_path / "a.jsonl", [record(), b"{", record(image=[]), record(id=[1]), record(id=2)]))
    assert [isinstance(line.record, Record) for line in lines] == [True, False, False, False, True]


def test_lines_keep_their_order_when_pictures_are_decoded(tmp_path: Path, images: Path) -> None:
    count = 3 * AHEAD
    names = ["dots/a.png" if number % 3 else "dots/b.png" for number in range(count)]
    file = write(tmp_path / "a.jsonl", [record(id=number, image=name) for number, name in enumerate(names)])
    lines = list(read(file, images))
    assert [line.number for line in lines] == [*range(1, count + 1)]
    assert [isinstance(line.record, Record) for line in lines] == [bool(number % 3) for number in range(count)]


@pytest.mark.parametrize("decoding", [False, True])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, images: Path, decoding: bool) -> None:
    text = record(id="x" * 2000)
    peaks = []
    for count in (100, 3000):
        file = write(tmp_path / f"{count}.jsonl", [text] * count)
        list(stream([file]).take(1))  # what is loaded once does not count
        tracemalloc.start()
        assert not any(isinstance(line.record, Rejected) for line in read(file, images if decoding else None))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 500_000 < 3000 * 2000
