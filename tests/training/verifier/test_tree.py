"""What becomes of stages, counted by hand on small trees."""

from swires.stages import Stage
from training.verifier.problem import Problem
from training.verifier.tree import Outcomes, Sampled, Tree, outcomes

PROBLEM = Problem(image="data:", question="How many?", answer="3")


def said(stage: Stage, text: str) -> str:
    return f"{stage.opening}{text}{stage.closing}"


def tree(*candidates: tuple[int | None, Stage, str], reason: str = "stop", number: int = 0) -> Tree:
    """`reason` is that of the last candidate."""
    rows = [
        Sampled.model_validate(
            {
                "id": place,
                "parent": parent,
                "stage": stage.name,
                "text": said(stage, text),
                "finish_reason": reason if place == len(candidates) - 1 else "stop",
            }
        )
        for place, (parent, stage, text) in enumerate(candidates)
    ]
    return Tree(problem=PROBLEM, number=number, candidates=tuple(rows))


PLAN, SEEN, FALSE = said(Stage.SUMMARY, "plan"), said(Stage.CAPTION, "seen"), said(Stage.CAPTION, "false")
GROWN = (
    (None, Stage.SUMMARY, "plan"),
    (0, Stage.CAPTION, "seen"),
    (0, Stage.CAPTION, "false"),
    (1, Stage.REASONING, "why"),
    (1, Stage.REASONING, "so"),
    (2, Stage.REASONING, "why"),
    (3, Stage.CONCLUSION, "3"),
    (4, Stage.CONCLUSION, "4"),
    (5, Stage.CONCLUSION, "4"),
)


def test_a_stage_has_the_rollouts_of_all_that_follows_it() -> None:
    found = outcomes([tree(*GROWN)])
    assert found[(PLAN,)] == Outcomes(Stage.SUMMARY, 1, 3)
    assert found[(PLAN, SEEN)] == Outcomes(Stage.CAPTION, 1, 2)
    assert found[(PLAN, FALSE)] == Outcomes(Stage.CAPTION, 0, 1)
    assert found[(PLAN, SEEN, said(Stage.REASONING, "why"))] == Outcomes(Stage.REASONING, 1, 1)
    assert found[(PLAN, FALSE, said(Stage.REASONING, "why"))] == Outcomes(Stage.REASONING, 0, 1)
    assert len(found) == 9


def test_what_reads_the_same_shares_its_rollouts() -> None:
    other = tree(
        (None, Stage.SUMMARY, "plan"),
        (0, Stage.CAPTION, "seen"),
        (1, Stage.REASONING, "so"),
        (2, Stage.CONCLUSION, " 3 "),
        number=1,
    )
    found = outcomes([tree(*GROWN), other])
    assert found[(PLAN, SEEN)] == Outcomes(Stage.CAPTION, 2, 3)
    assert found[(PLAN, SEEN, said(Stage.REASONING, "so"))] == Outcomes(Stage.REASONING, 1, 2)


def test_what_ran_out_of_room_is_wrong_and_itself_no_stage_to_judge() -> None:
    found = outcomes([tree(*GROWN[:4], reason="length")])
    assert found == {(PLAN,): Outcomes(Stage.SUMMARY, 0, 1), (PLAN, SEEN): Outcomes(Stage.CAPTION, 0, 1)}


def test_what_the_search_cut_tells_nothing() -> None:
    assert outcomes([tree(*GROWN[:4], reason="cut")]) == {}
