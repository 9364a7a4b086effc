import pytest

from training.evaluation.answers import Answer
from training.evaluation.statistics import bootstrap, results, rivals, rivals_table, table, wilson


def answered(arm: str, problem: int, content: str, tokens: int = 10, repeat: int = 0) -> Answer:
    return Answer(arm, problem, repeat, "3", content, tokens, 0, 1, 0, 0.1)


def test_wilson_interval_against_published_values() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3
    for hits, count, low, high in ((81, 263, 0.2553, 0.3662), (0, 20, 0.0, 0.1611)):
        found = wilson(hits / count, count)
        assert (found.value, found.low, found.high) == pytest.approx((hits / count, low, high), abs=1e-4)


def test_bootstrap_holds_the_mean_and_narrows_with_more_values() -> None:
    few, many = bootstrap([1.0, 0.0] * 10), bootstrap([1.0, 0.0] * 500)
    assert few.low < many.low < 0.5 < many.high < few.high
    assert few.value == many.value == 0.5


def test_arms_are_compared_with_the_first_on_the_same_problems() -> None:
    answers = [answered("greedy", n, "3" if n < 5 else "2") for n in range(10)]
    answers += [answered("swires", n, " 3\n" if n < 8 else "4", 50) for n in range(10)]
    greedy, swires = results(answers, ["greedy", "swires"])
    assert (greedy.right.value, greedy.gain.value, greedy.tokens) == (0.5, 0.0, 10)
    assert (swires.right.value, swires.gain.value, swires.tokens) == pytest.approx((0.8, 0.3, 50))
    assert swires.gain.low < 0.3 < swires.gain.high
    assert swires.removed.value == pytest.approx(0.6)  # 3 of 5 errors
    assert swires.removed.low < 0.6 < swires.removed.high <= 1


def test_repeats_are_no_further_problems() -> None:
    once = [answered("greedy", n, "3" if n < 5 else "2") for n in range(10)]
    often = [answered("greedy", n, "3" if n < 5 else "2", repeat=repeat) for n in range(10) for repeat in range(9)]
    assert results(once, ["greedy"])[0].right == results(often, ["greedy"])[0].right


def test_the_table_has_a_line_for_each_arm() -> None:
    answers = [answered("greedy", n, "3" if n < 5 else "2") for n in range(10)]
    head, line = table(results(answers, ["greedy"])).splitlines()
    assert head.split()[:2] == ["policy", "right"]
    assert line.startswith("greedy")
    assert "50.0% [23.7%, 76.3%]" in line


def test_an_arm_is_held_against_the_best_search_that_takes_no_more_tokens() -> None:
    shares = {"greedy": (5, 10), "best_of_n": (6, 40), "stage_beam": (9, 90), "adaptive": (7, 30), "swires": (8, 70)}
    answers = [
        answered(arm, n, "3" if n < right else "2", tokens)
        for arm, (right, tokens) in shares.items()
        for n in range(10)
    ]
    found = rivals(answers, results(answers, list(shares)))
    assert [(one.arm.arm, one.best.arm) for one in found] == [("best_of_n", "adaptive"), ("stage_beam", "swires")]
    assert [one.gain.value for one in found] == pytest.approx([0.1, -0.1])
    assert len(rivals_table(found).splitlines()) == 3
