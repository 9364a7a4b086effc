import random
import statistics
from collections import Counter
from pathlib import Path

import pytest

from swires.stages import Stage
from tests.training.data.records import TEXTS, Command, record, staged, write
from training.data.stats import measure, quantile, source


def test_what_a_file_is_made_of(tmp_path: Path) -> None:
    longer = staged({**TEXTS, Stage.REASONING: "one\ntwo  three four five"})
    lines = [record(), record(staged(), longer, image="coco/train/b.jpg"), record(image="c.png"), record("Two."), b"{"]
    stats = measure(write(tmp_path / "a.jsonl", lines))
    assert stats.turns == {1: 2, 2: 1}
    assert stats.sources == {"dots": 1, "coco": 1, ".": 1}
    assert stats.words[Stage.REASONING] == {3: 3, 5: 1}
    assert stats.words[Stage.CONCLUSION] == {1: 4}
    assert stats.passed_over == {"untagged_turn": 1, "not_json": 1}


def test_the_command_tells_it(tmp_path: Path, data: Command, capsys: pytest.CaptureFixture[str]) -> None:
    data("stats", write(tmp_path / "a.jsonl", [record(), record(staged(), staged(), image="coco/b.jpg"), b"{"]))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["2", "records", "with", "3", "turns"] in lines
    assert ["1", "others", "are", "not", "counted:", "not_json", "1"] in lines
    assert ["REASONING", "3", "3.0", "3", "3", "3"] in lines
    assert ["coco", "1", "50.0%"] in lines


def test_a_file_without_a_good_record(tmp_path: Path, data: Command, capsys: pytest.CaptureFixture[str]) -> None:
    data("stats", write(tmp_path / "a.jsonl", [b"{"]))
    assert capsys.readouterr().out == "0 records with 0 turns\n1 others are not counted: not_json 1\n"


def test_quantiles_of_counts_are_those_of_the_list() -> None:
    rng = random.Random(0)
    for _ in range(100):
        numbers = sorted(rng.randint(0, 9) for _ in range(rng.randint(1, 30)))
        counts = Counter(numbers)
        assert quantile(counts, 0.5) == statistics.median_low(numbers)
        assert (quantile(counts, 0), quantile(counts, 1)) == (numbers[0], numbers[-1])


@pytest.mark.parametrize(("image", "folder"), [("a/b/c.png", "a"), ("./a/b.png", "a"), ("b.png", "."), ("", ".")])
def test_the_source_is_the_first_folder(image: str, folder: str) -> None:
    assert source(image) == folder
