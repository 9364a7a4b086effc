from typing import Any

from server.engine.sampling_params import sampling_params
from swires.stages import Stage
from swires.types import Sampling

CLOSING = 7


def params(sampling: Sampling, closing_id: int | None = CLOSING, index: int = 0, **named: Any) -> dict[str, Any]:
    return sampling_params(
        Stage.CONCLUSION, sampling, index, **{"room": 99, "live": False, "closing_id": closing_id, **named}
    )


def test_a_stage_ends_at_its_token_and_without_one_at_its_tag() -> None:
    by_token, by_tag = params(Sampling(stop=(".",))), params(Sampling(stop=(".",)), None)
    assert (by_token["stop"], by_token["stop_token_ids"]) == (["."], [CLOSING])
    assert (by_tag["stop"], by_tag["stop_token_ids"]) == ([".", "</CONCLUSION>"], [])
    assert not params(Sampling())["detokenize"]


def test_a_schema_binds_the_conclusion_alone_and_leaves_no_token_to_stop_at() -> None:
    bound = Sampling(json_schema="{}")
    assert params(bound)["structured_outputs"]
    assert (params(bound)["stop"], params(bound)["stop_token_ids"]) == (["</CONCLUSION>"], [])
    before = sampling_params(Stage.REASONING, bound, 0, room=9, live=False, closing_id=CLOSING)
    assert (before["structured_outputs"], before["stop_token_ids"]) == (None, [CLOSING])


def test_a_candidate_has_a_seed_of_its_own_and_no_more_tokens_than_there_is_room_for() -> None:
    assert [params(Sampling(seed=5), index=index)["seed"] for index in range(3)] == [5, 6, 7]
    assert params(Sampling(), index=2)["seed"] is None
    assert [params(Sampling(max_tokens=50), room=room)["max_tokens"] for room in (20, 99)] == [20, 50]


def test_log_probabilities_where_somebody_asks() -> None:
    asked = (Sampling(), Sampling(likelihood=True), Sampling(top_logprobs=3, likelihood=True))
    assert [params(each)["logprobs"] for each in asked] == [None, 0, 3]
