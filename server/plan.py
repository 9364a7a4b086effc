"""From a checked request to what the search is to do; where the request is silent, the server's settings speak."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from server.errors import Refused
from server.numbers import WIDTHS, Given, given_numbers, make_policy
from server.presets import EFFORTS, MODES, PRESETS
from server.schemas import Request, StageOptions, SwiresOptions
from server.settings import PolicyName, PresetName, Settings
from swires.budget import Budget
from swires.plan import SearchPlan
from swires.policies import POLICIES, BestOfN, Greedy, KnownPolicy, SentenceBeam
from swires.protocols import Scorer
from swires.stages import Stage
from swires.types import Problem, Sampling

LIMITS = ("max_generations", "max_total_tokens", "timeout_s")
"""The keys of the `swires` object that may narrow the server's limits."""

FIXED_SEED = 0
"""Makes a request with temperature 0 repeatable: a search needs candidates that differ."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The policy with the numbers that the request has `given`, and the names under which the answer reports what was
    chosen; `stage_scorers` are of the stages that `scorer` is not for."""

    policy: KnownPolicy
    given: Mapping[str, Given]
    preset: PresetName
    scorer: str
    stage_scorers: Mapping[Stage, str]
    num_others: int  # answers beyond the first

    @property
    def width(self) -> int:
        """The greatest number of candidates at once."""
        return max(self.policy.width, self.num_others)


def model_names(settings: Settings) -> Mapping[str, str | None]:
    """The names that a request may give, with the mode that each stands for; the first stands for none."""
    return {settings.name: None, **{f"{settings.name}:{mode}": mode for mode in MODES}}


def choose(request: Request, settings: Settings, scorers: Mapping[str, Scorer]) -> Choice:
    """The most explicit wins: the `swires` object, then `reasoning_effort`, then the model's alias.

    Raises Refused, naming the field.
    """
    names = model_names(settings)
    if request.model not in names:
        message = f"model: there is no such model; there are {', '.join(names)}"
        raise Refused(message, status=404, param="model", code="model_not_found")
    effort = EFFORTS[request.effort] if request.effort else None
    mode = request.swires.preset or effort or names[request.model] or settings.preset
    if mode == "greedy":
        preset, name = settings.preset, request.swires.policy or "greedy"
    else:
        preset, name = cast(PresetName, mode), request.swires.policy or settings.policy
    given = given_numbers(name, request.swires)
    chosen = _chosen_scorers(request.swires, tuple(scorers))
    for stage, use in POLICIES[name].stages.items():
        param, scorer = chosen.get(stage, chosen[None])
        if use.accept_z is not None and scorers[scorer].ranks:
            raise Refused(f"{param}: {unfit(name, scorer)}", param=param, code="invalid_value")
    policy = make_policy(name, PRESETS[preset][name], given)
    if request.num_answers > 1 or request.json_schema:
        policy = _concluding_apart(policy)
    stage_scorers = {stage: scorer for stage, (_, scorer) in chosen.items() if stage is not None}
    return Choice(policy, given, preset, chosen[None][1], stage_scorers, request.num_answers - 1)


def _concluding_apart(policy: KnownPolicy) -> KnownPolicy:
    """So that answers may share what is concluded, and a schema binds what is sampled in one piece."""
    return replace(policy, concludes_apart=True) if isinstance(policy, Greedy | BestOfN | SentenceBeam) else policy


def unfit(policy: PolicyName, scorer: str) -> str:
    """Why a scorer that only ranks cannot serve a policy that thresholds."""
    fit = ", ".join(name for name, kind in POLICIES.items() if not kind.thresholds)
    return f"{scorer} only ranks, but {policy} compares scores with a threshold; policies for {scorer} are {fit}"


def budget(choice: Choice, request: Request, settings: Settings) -> Budget:
    """What the request may cost. Raises Refused where that is over the server's limits or under the policy's needs."""
    asked = {limit: value for limit in LIMITS if (value := getattr(request.swires, limit)) is not None}
    for limit, value in asked.items():
        if value > (most := getattr(settings, limit)):
            raise Refused(f"swires.{limit}: the server's limit is {most}", param=f"swires.{limit}")
    limits = Budget(
        **{limit: asked.get(limit, getattr(settings, limit)) for limit in LIMITS},
        max_answer_tokens=min(request.max_answer_tokens or settings.max_answer_tokens, settings.max_answer_tokens),
    )
    _check_fit(choice, limits)
    return limits


def search_plan(
    problem: Problem, policy: KnownPolicy, limits: Budget, request: Request, settings: Settings, *, max_model_len: int
) -> SearchPlan:
    """Within `limits`, and within what the rendered messages leave of the model's context."""
    room = max_model_len - problem.num_prompt_tokens
    limits = replace(limits, max_answer_tokens=min(limits.max_answer_tokens, room))
    sampling = _sampling(request, settings)
    samplings = {stage: _overridden(sampling, override) for stage, override in request.swires.stages.items()}
    samplings[Stage.CONCLUSION] = replace(
        samplings.get(Stage.CONCLUSION, sampling),
        top_logprobs=request.num_top_logprobs,
        json_schema=request.json_schema,
    )
    return SearchPlan(problem, policy, sampling, limits, samplings, request.num_answers)


def _chosen_scorers(options: SwiresOptions, names: Sequence[str]) -> Mapping[Stage | None, tuple[str, str]]:
    """For each stage that has its own and, under None, for all others: the field that chooses the scorer, its name."""
    asked = {None: ("swires.scorer", names[0] if options.scorer is None else options.scorer)} | {
        stage: (f"swires.stages.{stage.name}.scorer", override.scorer)
        for stage, override in options.stages.items()
        if override.scorer is not None
    }
    for param, name in asked.values():
        if name not in names:
            raise Refused(f"{param}: must be one of {', '.join(names)}", param=param)
    return asked


def _sampling(request: Request, settings: Settings) -> Sampling:
    seed = FIXED_SEED if request.temperature == 0 and request.seed is None else request.seed
    return Sampling(request.temperature or settings.temperature, request.top_p or settings.top_p, seed=seed)


def _overridden(sampling: Sampling, override: StageOptions) -> Sampling:
    temperature = sampling.temperature if override.temperature is None else override.temperature
    return replace(sampling, temperature=temperature, max_tokens=override.max_tokens or sampling.max_tokens)


def _check_fit(choice: Choice, limits: Budget) -> None:
    """Blames the greatest of the numbers that make the search as wide as it is, if the request has any of them."""
    policy, given = choice.policy, choice.given
    least = policy.least_generations + choice.num_others
    asked = [given[name] for name in WIDTHS if name in given]
    asked += [Given(choice.num_others + 1, "n")] if choice.num_others else []
    widest = max(asked, key=lambda each: each.value, default=None)
    for limit, unit in (("max_generations", "generations"), ("max_total_tokens", "tokens")):
        if least > (most := getattr(limits, limit)):
            param = widest.param if widest else f"swires.{limit}"
            blamed = f" with {widest.value}" if widest else ""
            message = f"{param}:{blamed} the policy {policy.name} takes at least {least} {unit}, the limit is {most}"
            raise Refused(message, param=param, code="invalid_value")
