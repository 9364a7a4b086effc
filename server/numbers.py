"""The numbers of a policy as a request gives them: for the whole search, or for one of its stages."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from server.errors import Refused
from server.schemas import SwiresOptions
from server.settings import PolicyName
from swires.choosing import StageUse
from swires.errors import InvalidPlan
from swires.policies import POLICIES, KnownPolicy
from swires.stages import Stage

NUMBERS = tuple(
    name
    for name in {field.name: None for policy in POLICIES.values() for field in fields(policy)}
    if name in SwiresOptions.model_fields
)
"""The keys of the `swires` object that belong to a policy."""

WIDTHS = ("captions", "keep_captions", "reasonings", "keep_reasonings", "candidates", "summaries", "conclusions")
"""Numbers that say how many candidates there must be."""


@dataclass(frozen=True, slots=True)
class Given:
    """A number, and the field of the request that gives it."""

    value: float
    param: str


def given_numbers(name: PolicyName, options: SwiresOptions) -> Mapping[str, Given]:
    """By the policy's own names; what is given for a stage goes over what is given for the search. Raises Refused."""
    given = {
        number: Given(value, f"swires.{number}")
        for number in NUMBERS
        if (value := getattr(options, number)) is not None
    }
    known = {field.name for field in fields(POLICIES[name])}
    for number, each in given.items():
        if number not in known:
            raise Refused(f"{each.param}: the policy {name} has no such number", param=each.param)
    return {**given, **_given_by_stage(name, options)}


def make_policy(name: PolicyName, preset: Mapping[str, float], given: Mapping[str, Given]) -> KnownPolicy:
    """`given` over `preset`. Raises Refused."""
    numbers: dict[str, Any] = {**preset, **{number: each.value for number, each in given.items()}}
    try:
        return POLICIES[name](**numbers)
    except InvalidPlan as error:
        param = given[error.field].param if error.field in given else f"swires.{error.field}"
        message = f"swires.{error}" if param == f"swires.{error.field}" else f"{param}: {error}"
        raise Refused(message, param=param, code="invalid_value") from error


def _given_by_stage(name: PolicyName, options: SwiresOptions) -> Mapping[str, Given]:
    given = dict[str, Given]()
    for stage, override in options.stages.items():
        use = _use(name, stage)
        for key, number in (("candidates", use.candidates), ("accept_z", use.accept_z)):
            value, param = getattr(override, key), f"swires.stages.{stage.name}.{key}"
            if value is not None and number is None:
                raise Refused(f"{param}: the policy {name} has no such number at this stage", param=param)
            if value is not None and number is not None:
                given[number] = Given(value, param)
        if override.scorer is not None and not use.scored:
            param = f"swires.stages.{stage.name}.scorer"
            raise Refused(f"{param}: the policy {name} does not score this stage", param=param)
    return given


def _use(name: PolicyName, stage: Stage) -> StageUse:
    if stage not in POLICIES[name].stages:
        param = f"swires.stages.{stage.name}"
        raise Refused(f"{param}: the policy {name} does not sample this stage by itself", param=param)
    return POLICIES[name].stages[stage]
