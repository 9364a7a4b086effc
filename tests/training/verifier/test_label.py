"""Labels, their split and their balance."""

from collections import Counter
from pathlib import Path

import pytest

from swires.stages import Stage
from tests.training.verifier.test_tree import GROWN, tree
from training.verifier import jsonl
from training.verifier.errors import BadFile
from training.verifier.label import HELD_OUT, TRAIN, Judged, Labelled, Rule, balance, label, split
from training.verifier.problem import Problem
from training.verifier.tree import Tree


def problem(number: int) -> Problem:
    return Problem(image="data:", question=f"{number}?", answer="3")


def labelled(number: int, *rights: bool, stage: Stage = Stage.CAPTION) -> Labelled:
    judged = (
        Judged(stage=stage, texts=(str(at),), right=right, share=right, rollouts=1) for at, right in enumerate(rights)
    )
    return Labelled(problem=problem(number), judged=tuple(judged))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(threshold=0.5, margin=0.25), {(Stage.CAPTION, False), (Stage.REASONING, True)}),
        (Rule(threshold=0.5, margin=0.0), {(Stage.SUMMARY, False), (Stage.CAPTION, True), (Stage.REASONING, True)}),
        (Rule(threshold=0.6, margin=0.0), {(Stage.SUMMARY, False), (Stage.CAPTION, False), (Stage.REASONING, True)}),
    ],
)
def test_a_stage_is_right_from_the_threshold_on(rule: Rule, expected: set[tuple[Stage, bool]]) -> None:
    """Shares: SUMMARY 1/3, CAPTION 1/2 and 0, REASONING and CONCLUSION 1, 0 and 0."""
    found = {(one.stage, one.right) for one in rule.judge([tree(*GROWN)])}
    assert expected <= found
    assert ((Stage.SUMMARY, False) in found) == (rule.margin == 0)
    assert ((Stage.CAPTION, True) in found) == (rule == Rule(0.5, 0.0))


def test_a_problem_stays_on_its_side_when_more_are_sampled() -> None:
    few, many = [labelled(number, True) for number in range(40)], [labelled(number, True) for number in range(400)]
    train, held_out = split(many, 0.25, seed=1)
    assert not {one.problem for one in train} & {one.problem for one in held_out}
    assert 60 < len(held_out) < 140
    assert split(few, 0.25, seed=1)[1] == [one for one in held_out if one in few]
    assert split(few, 0.25, seed=2)[1] != split(few, 0.25, seed=1)[1]


def test_right_and_wrong_are_balanced_in_each_stage() -> None:
    rows = [labelled(number, True, True, False) for number in range(10)]
    rows += [labelled(number, False, False, True, stage=Stage.CONCLUSION) for number in range(10, 15)]
    rows += [labelled(20, True, stage=Stage.SUMMARY)]
    kept = balance(rows, seed=0)
    found = Counter((judged.stage, judged.right) for one in kept for judged in one.judged)
    assert found == {(Stage.CAPTION, True): 10, (Stage.CAPTION, False): 10} | {
        (Stage.CONCLUSION, True): 5,
        (Stage.CONCLUSION, False): 5,
    }
    assert balance(rows, seed=0) == kept


def test_labels_of_a_record_are_written_and_counted(tmp_path: Path) -> None:
    record = tmp_path / "trees"
    trees = [tree(*GROWN).model_copy(update={"problem": problem(number)}) for number in range(40)]
    jsonl.write(record, trees)
    told = label(record, tmp_path / "labels", Rule(), held_out=0.3, seed=0)
    train = list(jsonl.read(tmp_path / "labels" / TRAIN, Labelled))
    held_out = list(jsonl.read(tmp_path / "labels" / HELD_OUT, Labelled))
    assert {one.problem for one in train} | {one.problem for one in held_out} == {tree.problem for tree in trees}
    assert all(len(one.judged) == 7 for one in held_out)  # all but SUMMARY and a CAPTION, of which it is not clear
    lines = [line.split() for line in told.splitlines()[1:]]
    assert lines[2][:3] == ["held", "out", str(len(held_out))]
    assert lines[2][-3:] == [str(len(held_out)), "/", f"{2 * len(held_out)}"]
    assert lines[1][-3:] == [str(len(train)), "/", str(len(train))]


def test_a_record_without_enough_problems_is_refused(tmp_path: Path) -> None:
    record = tmp_path / "trees"
    jsonl.write(record, [tree(*GROWN)])
    with pytest.raises(BadFile, match="1 problems are too few"):
        label(record, tmp_path / "labels", Rule(), held_out=0.3, seed=0)


def test_another_file_is_refused(tmp_path: Path) -> None:
    record = tmp_path / "trees"
    record.write_text('{"id": 1}\n')
    with pytest.raises(BadFile, match="line 1: problem: Field required"):
        list(jsonl.read(record, Tree))
