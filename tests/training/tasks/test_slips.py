import itertools
import random
import re

from swires.parser import parse
from swires.stages import Stage
from training.tasks.scenes import Scene, scenes
from training.tasks.slips import WRONG, Slipping, Truthful, unmarked

SCENES = list(itertools.islice(scenes(1), 200))


def slipped(scene: Scene, seed: int = 0, *, counts: float = 0.4, words: float = 0.02) -> str:
    return scene.told(Slipping(random.Random(seed), counts=counts, words=words))


def lists(text: str) -> list[str]:
    """What the reasoning lists, without the numbers before the lists."""
    reasoning = next(section.text for section in parse(text) if section.stage is Stage.REASONING)
    return [line.partition(": ")[2] for line in reasoning.split("\n")]


def test_the_truthful_tell_the_stages() -> None:
    assert all(scene.told(Truthful()) == scene.text for scene in SCENES)
    assert all(slipped(scene, counts=0, words=0) == scene.text for scene in SCENES)


def test_a_number_may_slip_but_never_the_list_after_it() -> None:
    for seed, scene in enumerate(SCENES):
        text, starts = unmarked(slipped(scene, seed, counts=1, words=0))
        assert starts
        assert lists(text) == lists(scene.text)


def test_what_follows_from_a_slip_follows_from_it() -> None:
    for seed, scene in enumerate(SCENES):
        text, _ = unmarked(slipped(scene, seed))
        told = {section.stage: section.text for section in parse(text)}
        stay = int(told[Stage.CAPTION].split()[0])
        for go, of, left in re.findall(r"(\d+) of (\d+) go, (\d+) stay", told[Stage.REASONING]):
            assert (int(of), int(left)) == (stay, stay - int(go))
            stay = int(left)
        assert told[Stage.CONCLUSION] == str(stay)


def test_a_thing_taken_for_another_stays_that_other() -> None:
    scene = SCENES[0]
    text, starts = unmarked(slipped(scene, counts=0, words=1))
    told = {section.stage: section.text for section in parse(text)}
    things = re.findall(r"\d (\w+ \w+ \w+)", told[Stage.CAPTION])
    assert len(starts) == 3 * len(things)
    assert re.findall(r"\d (\w+ \w+ \w+) ", told[Stage.REASONING].split("\n")[0]) == things


def test_marks_stand_at_just_the_words_that_are_wrong() -> None:
    text, starts = unmarked(f"a {WRONG}b c, {WRONG}d")
    assert text == "a b c, d"
    assert [text[start] for start in starts] == ["b", "d"]
    assert unmarked("a b") == ("a b", [])
