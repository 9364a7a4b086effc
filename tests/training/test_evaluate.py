from pathlib import Path

import pytest

from training.evaluate import Answered, Arm, EvaluationError, bootstrap, evaluate, problems, table, wilson


def answered(arm: str, problem: int, content: str, tokens: int = 10) -> Answered:
    return Answered(arm, problem, "3", content, tokens, 1, 0, 0.1)


def test_an_arm_is_a_policy_with_fields_of_the_request() -> None:
    assert Arm.parse("greedy") == Arm("greedy", {"policy": "greedy"})
    assert Arm.parse("swires:max_retraces=0,accept_z=0.5,scorer=likelihood").swires == {
        "policy": "swires",
        "max_retraces": 0,
        "accept_z": 0.5,
        "scorer": "likelihood",
    }


def test_wilson_interval_against_published_values() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_bootstrap_holds_the_mean_and_narrows_with_more_values() -> None:
    few, many = bootstrap([1.0, 0.0] * 10), bootstrap([1.0, 0.0] * 500)
    assert few[0] < many[0] < 0.5 < many[1] < few[1]


def test_the_table_compares_with_the_first_arm() -> None:
    arms = [Arm.parse("greedy"), Arm.parse("swires")]
    rows = [answered("greedy", n, "3" if n < 5 else "2") for n in range(10)]
    rows += [answered("swires", n, " 3\n" if n < 8 else "4", 50) for n in range(10)]
    greedy, swires = table(rows, arms).splitlines()[1:]
    assert "50.0%" in greedy
    assert "+0.0" in greedy
    assert "80.0%" in swires
    assert "+30.0" in swires
    assert "50" in swires.split()


async def test_a_server_that_is_not_there_is_told(tmp_path: Path, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    with pytest.raises(EvaluationError, match=url):
        await evaluate(
            url, problems("scenes", 1, 1), [Arm.parse("greedy")], seed=1, concurrency=1, record=tmp_path / "answers"
        )


def test_problems_are_the_same_for_a_seed() -> None:
    assert [one.question for one in problems("easy-vqa", 20, 1)] == [
        one.question for one in problems("easy-vqa", 20, 1)
    ]
    assert len(problems("easy-vqa", 0, 1)) == 9673
    assert len(problems("scenes", 7, 1)) == 7
