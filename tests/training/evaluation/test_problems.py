from training.evaluation.problems import problems


def test_problems_are_the_same_for_a_seed() -> None:
    assert [one.question for one in problems("easy-vqa", 20, 1)] == [
        one.question for one in problems("easy-vqa", 20, 1)
    ]
    assert len(problems("easy-vqa", 0, 1)) == 9673
    assert len(problems("scenes", 7, 1)) == 7
