"""From a checked request to what the search is to do; where the request is silent, the server's settings speak."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import cast

from server.errors import Refused
from server.presets import EFFORTS, MODES, PRESETS
from server.schemas import ChatRequest, SwiresOptions
from server.settings import PolicyName, PresetName, Settings
from swires.budget import Budget
from swires.errors import InvalidPlan
from swires.plan import SearchPlan
from swires.policies import POLICIES
from swires.protocols import Scorer, SearchPolicy
from swires.types import Problem, Sampling

NUMBERS = tuple({field.name: None for policy in POLICIES.values() for field in fields(policy)})
"""The keys of the `swires` object that belong to a policy."""

WIDTHS = ("captions", "keep_captions", "reasonings", "keep_reasonings", "candidates")
"""Those of them that say how many candidates there must be."""

LIMITS = ("max_generations", "max_total_tokens", "timeout_s")
"""The keys of the `swires` object that may narrow the server's limits."""

FIXED_SEED = 0
"""Makes a request with temperature 0 repeatable: a search needs candidates that differ."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The policy, and the names under which the answer reports what was chosen."""

    policy: SearchPolicy
    preset: PresetName
    scorer: str


def model_names(settings: Settings) -> Mapping[str, str | None]:
    """The names that a request may give, with the mode that each stands for; the first stands for none."""
    return {settings.name: None, **{f"{settings.name}:{mode}": mode for mode in MODES}}


def choose(chat: ChatRequest, settings: Settings, scorers: Mapping[str, Scorer]) -> Choice:
    """The most explicit wins: the `swires` object, then `reasoning_effort`, then the model's alias.

    Raises Refused, naming the field.
    """
    names = model_names(settings)
    if chat.model not in names:
        message = f"model: there is no such model; there are {', '.join(names)}"
        raise Refused(message, status=404, param="model", code="model_not_found")
    scorer = next(iter(scorers)) if chat.swires.scorer is None else chat.swires.scorer
    if scorer not in scorers:
        raise Refused(f"swires.scorer: must be one of {', '.join(scorers)}", param="swires.scorer")
    effort = EFFORTS[chat.reasoning_effort] if chat.reasoning_effort else None
    mode = chat.swires.preset or effort or names[chat.model] or settings.preset
    if mode == "greedy":
        preset, name = settings.preset, chat.swires.policy or "greedy"
    else:
        preset, name = cast(PresetName, mode), chat.swires.policy or settings.policy
    if scorers[scorer].ranks and POLICIES[name].thresholds:
        raise Refused(f"swires.scorer: {unfit(name, scorer)}", param="swires.scorer", code="invalid_value")
    return Choice(_policy(name, preset, chat.swires), preset, scorer)


def unfit(policy: PolicyName, scorer: str) -> str:
    """Why a scorer that only ranks cannot serve a policy that thresholds."""
    fit = ", ".join(name for name, kind in POLICIES.items() if not kind.thresholds)
    return f"{scorer} only ranks, but {policy} compares scores with a threshold; policies for {scorer} are {fit}"


def budget(policy: SearchPolicy, chat: ChatRequest, settings: Settings) -> Budget:
    """What the request may cost. Raises Refused where it is more than the server gives, or less than `policy` needs."""
    asked = {limit: value for limit in LIMITS if (value := getattr(chat.swires, limit)) is not None}
    for limit, value in asked.items():
        if value > (most := getattr(settings, limit)):
            raise Refused(f"swires.{limit}: the server's limit is {most}", param=f"swires.{limit}")
    answer_limits = (chat.max_tokens, chat.max_completion_tokens, settings.max_answer_tokens)
    limits = Budget(
        **{limit: asked.get(limit, getattr(settings, limit)) for limit in LIMITS},
        max_answer_tokens=min(limit for limit in answer_limits if limit is not None),
    )
    _check_fit(policy, limits, chat.swires)
    return limits


def search_plan(
    problem: Problem, policy: SearchPolicy, limits: Budget, chat: ChatRequest, settings: Settings, *, max_model_len: int
) -> SearchPlan:
    """Within `limits`, and within what the rendered messages leave of the model's context."""
    room = max_model_len - problem.num_prompt_tokens
    limits = replace(limits, max_answer_tokens=min(limits.max_answer_tokens, room))
    return SearchPlan(problem, policy, _sampling(chat, settings), limits)


def _policy(name: PolicyName, preset: PresetName, options: SwiresOptions) -> SearchPolicy:
    given = {number: value for number in NUMBERS if (value := getattr(options, number)) is not None}
    kind = POLICIES[name]
    known = {field.name for field in fields(kind)}
    for number in given:
        if number not in known:
            raise Refused(f"swires.{number}: the policy {name} has no such number", param=f"swires.{number}")
    try:
        return kind(**{**PRESETS[preset][name], **given})
    except InvalidPlan as error:
        raise Refused(f"swires.{error}", param=f"swires.{error.field}", code="invalid_value") from error


def _sampling(chat: ChatRequest, settings: Settings) -> Sampling:
    seed = FIXED_SEED if chat.temperature == 0 and chat.seed is None else chat.seed
    return Sampling(chat.temperature or settings.temperature, chat.top_p or settings.top_p, seed=seed)


def _check_fit(policy: SearchPolicy, limits: Budget, options: SwiresOptions) -> None:
    """Blames the greatest of the numbers that make the policy as wide as it is, if the request has any of them."""
    least = policy.least_generations
    given = {number: value for number in WIDTHS if (value := getattr(options, number)) is not None}
    for limit, unit in (("max_generations", "generations"), ("max_total_tokens", "tokens")):
        if least > (most := getattr(limits, limit)):
            field = max(given, key=lambda number: given[number], default=limit)
            asked = f" with {given[field]}" if field in given else ""
            message = (
                f"swires.{field}:{asked} the policy {policy.name} takes at least {least} {unit}, the limit is {most}"
            )
            raise Refused(message, param=f"swires.{field}", code="invalid_value")
