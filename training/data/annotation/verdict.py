"""Which annotations are kept: the paper's filter, and one for words that give the known answer away."""

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from swires.stages import TAGS, Stage
from training.data.annotation.call import Call, Reply
from training.data.annotation.prompts import judgement_prompt, stages_prompt
from training.data.annotation.turns import Turn
from training.data.answer import read_answer
from training.data.rejection import Rejected

Reason: TypeAlias = Literal["refused", "cut", "tags", "leaked_answer", "wrong_answer", "unjudged"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt was not kept, with all that the teacher wrote."""

    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class Annotated:
    text: str


@dataclass(frozen=True, slots=True)
class Refused:
    """No attempt was good enough."""

    failures: tuple[Failure, ...]

    @property
    def reason(self) -> Reason:
        return self.failures[-1].reason


Verdict: TypeAlias = Annotated | Refused
Annotation: TypeAlias = Generator[Call, Reply, Verdict]

_THOUGHTS = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
_ANY_TAG = re.compile("|".join(map(re.escape, TAGS)))
_APOLOGY = re.compile(
    r"\W*(i'?m (very )?sorry|i am (very )?sorry|sorry|apologies|i apologi[sz]e|unfortunately|as an ai\b"
    r"|i (cannot|can'?t|can not|won'?t|am unable|am not able)\b|i'm (unable|not able)\b)",
    re.IGNORECASE,
)
_ANSWER = r"(answers?|solutions?)\b(?! (choices?|options?|candidates?|alternatives?|sets?)\b)"
_LEAK = re.compile(
    rf"\b(standard|reference|known|provided|supplied|gold|golden|official|expected|ground[ -]truth) {_ANSWER}"
    rf"|\bthe given {_ANSWER}"
    r"|\bground[ -]truth\b|\banswer key\b"
    r"|\banswer (that |which )?(was|were|is|has been|have been|i was|i am) (provided|supplied|given|told)\b"
    r"|\banswer (provided|supplied|given) (above|below|here|to me|in the (prompt|instructions?|task))\b"
    rf"|\bas (in|(stated|given|shown|indicated) (in|by)) the {_ANSWER}"
    rf"|\b(per|according to|in line with|in agreement with|consistent with|match(es)?|agrees with) the {_ANSWER}"
    r"|\bi( was| am| have been|'ve been) (told|given) (that )?the (correct |right |final )?answer\b",
    re.IGNORECASE,
)
_JUDGED = re.compile(r"\b(in)?valid\b", re.IGNORECASE)


def annotate(turn: Turn, attempts: int) -> Annotation:
    """Ask for the stages of a turn, at most `attempts` times, and judge what comes back."""
    failures: list[Failure] = []
    for attempt in range(attempts):
        reply = yield Call("stages", turn.record, turn.index, attempt, stages_prompt(turn), turn.image)
        stages = read_stages(reply.text)
        reason = defect(reply, stages, turn)
        if reason is None and not same_words(stages[Stage.CONCLUSION], turn.answer):
            prompt = judgement_prompt(turn.answer, stages[Stage.CONCLUSION])
            reason = judged((yield Call("judgement", turn.record, turn.index, attempt, prompt)).text)
        if reason is None:
            return Annotated("".join(f"{stage.opening}{text}{stage.closing}" for stage, text in stages.items()))
        failures.append(Failure(reason, reply.refusal or reply.text))
    return Refused(tuple(failures))


def read_stages(text: str) -> dict[Stage, str]:
    """The text of each stage; empty unless all four are there, in order, closed, with text, and nothing else is."""
    try:
        return read_answer(spoken(text))
    except Rejected:
        return {}


def spoken(text: str) -> str:
    """Without the thoughts that some servers leave at the head of a reply."""
    thoughts = _THOUGHTS.match(text)
    return text[thoughts.end() if thoughts else 0 :].strip()


def defect(reply: Reply, stages: dict[Stage, str], turn: Turn) -> Reason | None:
    """What is wrong with a reply, by its form."""
    if reply.refusal or reply.finish_reason == "content_filter":
        return "refused"
    if reply.finish_reason == "length":
        return "cut"
    if not stages:
        return (
            "refused" if _APOLOGY.match(_straight(spoken(reply.text))) and not _ANY_TAG.search(reply.text) else "tags"
        )
    return "leaked_answer" if leaks("\n".join(stages.values()), turn) else None


def leaks(text: str, turn: Turn) -> bool:
    """Whether a text speaks of the known answer, in words that are not those of the question or the answer."""
    asked = _straight(f"{turn.question}\n{turn.answer}").lower()
    return any(found.group().lower() not in asked for found in _LEAK.finditer(_straight(text)))


def same_words(conclusion: str, answer: str) -> bool:
    """Equal but for letter case, white space and a full stop at the end: no matter for a judge."""
    return _plain(conclusion) == _plain(answer)


def judged(text: str) -> Reason | None:
    found = {word.group().lower() for word in _JUDGED.finditer(spoken(text))}
    if len(found) != 1:
        return "unjudged"
    return None if found == {"valid"} else "wrong_answer"


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).removesuffix(".")


def _straight(text: str) -> str:
    return text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
