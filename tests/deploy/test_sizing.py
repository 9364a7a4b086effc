from pathlib import Path

import pytest

from deploy import sizing
from deploy.sizing import ACCELERATORS, MODELS, Accelerator, Assumed, Node

PAGE = (Path(__file__).parents[2] / "deploy" / "operating.md").read_text()
H100 = ACCELERATORS["H100 SXM"]
ASSUMED = Assumed(num_searches=100)


def node(accelerator: Accelerator = H100, num: int = 1) -> Node:
    return Node("7B", MODELS["Qwen2.5-VL-7B"], accelerator, num, context_tokens=2000)


def searches_per_s(node: Node, mode: str = "greedy") -> float:
    (row,) = Assumed(num_searches=100, modes=[mode]).rows(node)
    return row.searches_per_s


def test_weights_and_cache_are_the_arithmetic_of_the_page() -> None:
    model = node().model
    assert model.weight_bytes == 2 * (7.6e9 + 0.67e9)
    assert model.cache_bytes_per_token == 2 * 28 * 4 * 128 * 2
    small = node(H100._replace(memory=24e9))
    room = 24e9 * 0.9 - 3e9 - model.weight_bytes
    assert small.max_candidates == int(room / (2000 * model.cache_bytes_per_token))
    assert node().max_candidates == 256


def test_what_does_not_fit_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert sizing.main(["one", "--model", "Qwen2.5-VL-72B", "--accelerator", "L4"]) == 1
    assert (
        capsys.readouterr().err.strip() == "sizing: Qwen2.5-VL-72B on 1 L4: weights of 147 GB leave no room; take more"
    )


def test_more_bandwidth_serves_more_and_more_search_less() -> None:
    assert searches_per_s(node(H100._replace(bandwidth=2 * H100.bandwidth, flops=2 * H100.flops))) > searches_per_s(
        node()
    )
    assert searches_per_s(node(), "greedy") > searches_per_s(node(), "fast") > 0


def test_a_split_model_serves_less_for_each_gpu() -> None:
    assert searches_per_s(node(num=2)) < 2 * searches_per_s(node())


def test_the_page_shows_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert sizing.main(["one", "--modes", "fast"]) == 0
    *_, row = capsys.readouterr().out.splitlines()
    assert row in PAGE
