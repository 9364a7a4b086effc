"""Of each of the cases that the server is held to, by number, the tests that show how it is answered."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.server.gate.cases import CASES

ROOT = Path(__file__).parents[3]
NUMBERS = range(1, 71)

SHOWN: Mapping[int, tuple[str, ...]] = {
    4: ("tests/server/test_gate.py::test_a_body_in_chunks_is_bounded_too",),
    5: (
        "tests/server/gate/test_slow_clients.py::test_a_body_that_drips_is_408_in_the_end",
        "tests/server/gate/test_slow_clients.py::test_who_goes_on_sending_when_all_is_said_is_left",
    ),
    11: ("tests/server/test_gate.py::test_a_head_that_is_refused",),
    12: (
        "tests/server/test_gate.py::test_a_head_that_is_refused",
        "tests/server/test_gate.py::test_a_host_that_is_none",
    ),
    13: ("tests/server/test_gate.py::test_a_head_that_is_refused",),
    14: (
        "tests/server/test_callers.py::test_what_is_no_known_key_is_401",
        "tests/server/test_callers.py::test_the_scheme_is_read_in_any_case",
    ),
    24: ("tests/server/gate/test_process.py::test_an_image_that_would_unpack_to_much",),
    26: (
        "tests/server/test_images.py::test_an_animation_is_its_first_frame",
        "tests/server/test_images.py::test_sixteen_bits_are_scaled",
        "tests/server/test_images.py::test_cmyk",
        "tests/server/test_images.py::test_a_palette_with_transparency",
        "tests/server/test_images.py::test_the_orientation_is_applied",
    ),
    28: (
        "tests/server/test_fetch.py::test_what_is_not_an_allowed_address_is_400_and_nothing_is_asked",
        "tests/server/test_fetch.py::test_addresses_inside",
    ),
    29: (
        "tests/server/test_fetch.py::test_a_host_that_does_not_give_it_is_422_and_asked_once",
        "tests/server/test_fetch.py::test_a_name_that_leads_inside_is_422_and_nothing_is_asked",
    ),
    30: ("tests/server/test_fetch.py::test_what_is_not_an_allowed_address_is_400_and_nothing_is_asked",),
    31: (
        "tests/server/test_fetch.py::test_a_host_that_does_not_give_it_is_422_and_asked_once",
        "tests/server/test_fetch.py::test_a_body_without_end_is_413",
        "tests/server/test_fetch.py::test_a_host_that_hangs_or_drips_is_422",
    ),
    44: (
        "tests/server/test_schema_limits.py::test_what_would_take_seconds",
        "tests/engine/test_vllm_engine.py::test_a_schema_that_would_be_kept_to_in_part_is_refused",
    ),
    47: (
        "tests/engine/test_vllm_engine.py::test_special_tokens_that_a_user_typed_stay_text",
        "tests/server/gate/test_on_vllm.py::test_what_a_user_types_is_neither_an_image_nor_a_turn_nor_a_stage",
    ),
    48: ("tests/server/test_on_vllm.py::test_tags_that_a_user_types_do_not_mix_with_the_stages",),
    49: (
        "tests/scorer/test_judge.py::test_the_last_verdict_counts",
        "tests/scorer/test_judge.py::test_a_judge_who_says_the_same_of_both_orders_leaves_the_earlier_ahead",
        "tests/scorer/test_verifier.py::test_the_score_is_how_much_likelier_yes_is_than_no",
    ),
    51: ("tests/server/gate/test_crowds.py::test_two_requests_of_one_name_at_once",),
    52: (
        "tests/server/gate/test_hang_ups.py::test_at_every_point_of_a_search",
        "tests/server/gate/test_hang_ups.py::test_in_the_line",
        "tests/server/gate/test_hang_ups.py::test_while_its_answer_is_written",
        "tests/server/gate/test_on_vllm.py::test_a_hang_up_leaves_no_request_in_vllm",
    ),
    53: (
        "tests/server/gate/test_slow_clients.py::test_a_client_that_reads_nothing_keeps_nothing",
        "tests/server/gate/test_process.py::test_answers_that_nobody_reads",
    ),
    54: (
        "tests/server/gate/test_process.py::test_connections_that_ask_nothing",
        "tests/server/test_gate.py::test_a_client_that_does_not_finish_its_head_is_left",
    ),
    55: ("tests/server/gate/test_crowds.py::test_a_burst_of_ten_times_what_there_is_room_for",),
    56: ("tests/server/gate/test_crowds.py::test_a_key_that_floods_is_refused_and_costs_the_others_little",),
    57: ("tests/server/gate/test_odd_answers.py::test_odd_candidates_end_in_an_answer",),
    58: ("tests/server/gate/test_odd_answers.py::test_a_stage_none_of_whose_candidates_is_valid",),
    59: (
        "tests/swires/test_search.py::test_a_scorer_that_fails_makes_all_candidates_average",
        "tests/scorer/test_faults.py::test_a_fault_is_survived_and_told",
        "tests/scorer/test_faults.py::test_a_stall_ends_with_the_search_s_own_time",
        "tests/scorer/test_judge.py::test_one_readable_order_is_not_enough",
    ),
    60: ("tests/server/gate/test_odd_answers.py::test_a_request_that_the_engine_fails_on_costs_its_candidates_alone",),
    61: (
        "tests/server/faults/test_engine.py::test_a_dead_engine_is_told_to_all_and_ends_the_server",
        "tests/server/faults/test_process.py::test_a_process_without_its_engine_ends_for_another_to_begin",
        "tests/server/faults/test_process_on_vllm.py::test_a_small_cache_then_a_core_that_stalls_then_one_that_is_killed",
    ),
    62: (
        "tests/server/faults/test_engine.py::test_the_deadline_ends_a_search_whose_engine_stands_still",
        "tests/server/faults/test_engine.py::test_an_engine_that_stands_still_counts_as_dead",
        "tests/server/faults/test_process_on_vllm.py::test_a_small_cache_then_a_core_that_stalls_then_one_that_is_killed",
    ),
    63: (
        "tests/server/faults/test_process_on_vllm.py::test_a_small_cache_then_a_core_that_stalls_then_one_that_is_killed",
    ),
    64: ("tests/server/faults/test_signals.py::test_all_that_was_accepted_finishes_and_nothing_new_begins",),
    65: (
        "tests/server/faults/test_signals.py::test_a_second_signal_ends_searches",
        "tests/server/faults/test_process.py::test_the_status_after_two_signals",
        "tests/server/faults/test_process_on_vllm.py::test_a_signal_while_the_engine_loads_ends_all_at_once",
    ),
    66: (
        "tests/server/faults/test_process.py::test_a_full_disk_keeps_nobody_from_an_answer",
        "tests/server/faults/test_process.py::test_nothing_of_a_home_is_needed",
        "tests/engine/test_vllm_engine.py::test_a_start_that_fails_tells_what_the_machine_lacks",
    ),
    67: (
        "tests/server/test_preflight.py::test_a_defect_is_told_in_one_line",
        "tests/server/test_preflight.py::test_so_is_one_of_a_reward_model",
    ),
    68: (
        "tests/server/gate/test_crowds.py::test_names_that_clients_make_up_are_no_labels",
        "tests/server/gate/test_crowds.py::test_metrics_are_told_while_searches_run",
    ),
    69: (
        "tests/server/faults/test_clock.py::test_a_search_takes_the_seconds_that_it_takes",
        "tests/server/faults/test_clock.py::test_a_deadline_comes_when_it_should",
        "tests/server/faults/test_clock.py::test_who_is_refused_is_told_a_few_seconds",
        "tests/server/faults/test_clock.py::test_a_dead_engine_is_noticed",
    ),
    70: ("tests/server/gate/test_odd_answers.py::test_what_fails_in_a_stream_is_told_in_it_and_counted",),
}
"""Beside the rows of `cases.py`, which are sent to the fake engine and to real vLLM."""


@pytest.mark.parametrize("number", NUMBERS)
def test_every_case_is_shown(number: int) -> None:
    assert number in SHOWN or any(case.number == number for case in CASES)


@pytest.mark.parametrize("test", sorted({test for tests in SHOWN.values() for test in tests}))
def test_what_is_named_is_there(test: str) -> None:
    path, _, name = test.partition("::")
    assert re.search(rf"^(?:async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE)
