import itertools
import re

from swires.stages import Stage
from training.tasks.example import Example
from training.tasks.scenes import Filter, Problem, Thing, answer, scenes


def some(seed: int, count: int = 200) -> list[Example]:
    return list(itertools.islice(scenes(seed), count))


def test_the_same_seed_gives_the_same_scenes() -> None:
    for one, two in zip(some(3, 20), some(3, 20), strict=True):
        assert (one.question, one.text, one.image.tobytes()) == (two.question, two.text, two.image.tobytes())
    assert [one.question for one in some(3, 20)] != [one.question for one in some(4, 20)]


def test_the_steps_of_an_answer_by_hand() -> None:
    things = (
        Thing("large", "red", "circle"),
        Thing("small", "blue", "square"),
        Thing("small", "red", "circle"),
        Thing("large", "green", "triangle"),
    )
    problem = Problem((Filter(color="red", shape="circle"), Filter(size="small")), Filter(shape="square"))
    assert answer(things, problem) == {
        Stage.SUMMARY: "List what is there, take away red circles, then small objects, and count the squares left.",
        Stage.CAPTION: "4 objects: 1 large red circle, 2 small blue square, "
        "3 small red circle, 4 large green triangle.",
        Stage.REASONING: "A red circle? 2 of 4 go, 2 stay: 1 large red circle one, 2 small blue square no, "
        "3 small red circle two, 4 large green triangle no.\n"
        "A small object? 1 of 2 go, 1 stay: 2 small blue square one, 4 large green triangle no.\n"
        "Not a square? 1 of 1 go, 0 stay: 4 large green triangle one.",
        Stage.CONCLUSION: "0",
    }


def test_answers_follow_from_the_caption_and_the_question() -> None:
    for example in some(5):
        left = re.findall(r"\d (\w+ \w+ \w+)", example.stages[Stage.CAPTION])
        for words in re.findall(r"all ([\w ]+)\.", example.question):
            left = [thing for thing in left if not admits(words, thing)]
        (asked,) = re.findall(r"How many ([\w ]+) are left", example.question)
        assert example.answer == str(sum(admits(asked, thing) for thing in left))


def admits(words: str, thing: str) -> bool:
    return all(word in ("objects", *thing.split(), thing.split()[-1] + "s") for word in words.split())


def test_captions_count_what_they_list_and_scenes_hold_two_to_eight_things() -> None:
    for example in some(6):
        caption = example.stages[Stage.CAPTION]
        count = int(caption.split()[0])
        assert count == len(re.findall(r"\d (?:small|large)", caption))
        assert 2 <= count <= 8
        assert example.image.size == (64, 64)


def test_answers_are_spread_out() -> None:
    answers = [example.answer for example in some(7, 500)]
    assert max(answers.count(answer) for answer in set(answers)) < 0.3 * len(answers)
