import pytest

from swires.stages import Stage
from training.tasks.easy_vqa import easy_vqa_examples
from training.tasks.example import Example


@pytest.fixture(scope="module")
def test_split() -> list[Example]:
    return easy_vqa_examples("test")


def test_the_official_test_split_is_whole_and_in_its_order(test_split: list[Example]) -> None:
    assert len(test_split) == 9673
    assert (test_split[0].question, test_split[0].answer) == ("what is the red shape?", "triangle")


def test_pictures_of_the_two_splits_are_not_shared(test_split: list[Example]) -> None:
    train = {example.image.tobytes() for example in easy_vqa_examples("train")[:2000]}
    assert not train & {example.image.tobytes() for example in test_split[:2000]}


def test_derived_reasoning_ends_at_the_published_answer(test_split: list[Example]) -> None:
    whole = [example for example in test_split if len(example.stages) == len(Stage)]
    assert len(whole) > 7000
    for example in whole:
        assert example.stages[Stage.REASONING].rstrip(".").endswith(example.answer)
        if example.answer in ("yes", "no") and "not" not in example.question and "no " not in example.question:
            named = example.question.rstrip("?").split()
            seen = set(example.stages[Stage.CAPTION].rstrip(".").split()) & set(named)
            assert bool(seen) == (example.answer == "yes")
