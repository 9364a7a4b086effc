"""its_hub over vLLM's own server, all candidates of a step asked for at once: a child, see `deploy.bench.child`.

Runs in an environment of its own. its_hub's step-wise searches hand on the text of a question alone, its client no
top_p: here the client puts both into each request, so that its searches see what the others see.
"""

import argparse
import asyncio
import json
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
from its_hub.api import (  # type: ignore[import-not-found, unused-ignore]
    AbstractOutcomeRewardModel,
    AbstractProcessRewardModel,
    GenerationUsage,
)
from its_hub.core.algorithms.beam_search import BeamSearch  # type: ignore[import-not-found, unused-ignore]
from its_hub.core.algorithms.bon import BestOfN  # type: ignore[import-not-found, unused-ignore]
from its_hub.core.lms.openai_lm import (  # type: ignore[import-not-found, unused-ignore]
    OpenAICompatibleLanguageModel,
)
from its_hub.core.lms.step_generation import StepGeneration  # type: ignore[import-not-found, unused-ignore]
from its_hub.core.orchestrator import LMOrchestrator  # type: ignore[import-not-found, unused-ignore]

from deploy.bench.child import answer_lines, claimed_output
from deploy.bench.schedule import TEMPERATURE, TOP_P, conclusion
from swires.stages import Stage

Json: TypeAlias = dict[str, Any]

CANDIDATES, KEEP = 4, 2
NUM_LIKELIEST = 5
NEVER = -20.0
"""In nats, of a label that is not among the likeliest."""

IMAGE: ContextVar[str] = ContextVar("IMAGE")
USAGE: ContextVar[GenerationUsage] = ContextVar("USAGE")


def whole(text: str) -> str:
    """its_hub takes the last closing tag away."""
    opened = Stage.CONCLUSION.opening in text and Stage.CONCLUSION.closing not in text
    return text + Stage.CONCLUSION.closing if opened else text


class SeeingModel(OpenAICompatibleLanguageModel):  # type: ignore[misc, unused-ignore]
    """Shows the image with the question, and counts what is generated."""

    def _prepare_request_data(self, messages: Any, *args: Any, **more: Any) -> Json:
        request: Json = super()._prepare_request_data(messages, *args, **more)
        request |= {"top_p": TOP_P, "skip_special_tokens": False, "include_stop_str_in_output": True}
        asked = request["messages"][0]
        image = {"type": "image_url", "image_url": {"url": IMAGE.get()}}
        asked["content"] = [image, {"type": "text", "text": asked["content"]}]
        return request

    async def agenerate(self, messages: Any, **more: Any) -> Any:
        return await super().agenerate(messages, usage_accumulator=USAGE.get(), **more)


class Verdicts(AbstractOutcomeRewardModel, AbstractProcessRewardModel):  # type: ignore[misc, unused-ignore]
    """The checkpoint's own verifier, asked for one more token."""

    def __init__(self, session: aiohttp.ClientSession, url: str, verifier: Json) -> None:
        self.session, self.url, self.verifier = session, url, verifier

    def score(self, *args: Any, **more: Any) -> Any:
        raise NotImplementedError

    async def ascore(self, asked: Any, steps: Any = None, **more: Any) -> list[float]:
        """Of conversations that end in an answer, or of a question's unfinished answers."""
        if steps is None:
            pairs = [(messages[0].content, messages[-1].content) for messages in asked]
        else:
            pairs = [(asked, text) for text in steps]
        return await asyncio.gather(*(self._verdict(question, whole(text)) for question, text in pairs))

    async def _verdict(self, question: str, text: str) -> float:
        shown = [{"type": "image_url", "image_url": {"url": IMAGE.get()}}, {"type": "text", "text": question}]
        answer = {"role": "assistant", "content": text + self.verifier["ask"]}
        request = {
            "model": "demo",
            "messages": [{"role": "user", "content": shown}, answer],
            "continue_final_message": True,
            "add_generation_prompt": False,
            "temperature": 0,
            "max_completion_tokens": 1,
            "logprobs": True,
            "top_logprobs": NUM_LIKELIEST,
            "skip_special_tokens": False,
        }
        async with self.session.post(f"{self.url}/v1/chat/completions", json=request) as reply:
            reply.raise_for_status()
            told = await reply.json()
        likeliest = told["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        logprobs = {each["token"]: each["logprob"] for each in likeliest}
        return float(logprobs.get(self.verifier["yes"], NEVER) - logprobs.get(self.verifier["no"], NEVER))


class ItsHub:
    def __init__(self, session: aiohttp.ClientSession, url: str, verifier: Json) -> None:
        verdicts, end = Verdicts(session, url, verifier), Stage.CONCLUSION.closing
        self.model = SeeingModel(f"{url}/v1", "none", "demo", stop=end, temperature=TEMPERATURE)
        steps = StepGeneration(
            max_steps=len(Stage),
            step_token=[stage.closing for stage in Stage],
            stop_token=end,
            temperature=TEMPERATURE,
            include_stop_str_in_output=True,
        )
        self.searches = {
            "best-of-n": BestOfN(verdicts, LMOrchestrator(max_concurrency=-1)),
            "beam": BeamSearch(steps, verdicts, KEEP),
        }

    async def answer(self, request: Json) -> Json:
        if request["row"] == "metrics":
            return {"metrics": ""}
        usage, started = GenerationUsage(), time.perf_counter()
        IMAGE.set(request["image"])
        USAGE.set(usage)
        search = self.searches[request["row"]]
        result = await search.ainfer(self.model, request["question"], CANDIDATES, return_response_only=False)
        seconds = time.perf_counter() - started
        usage.merge(getattr(result, "usage", None) or GenerationUsage())
        return {
            "content": conclusion(whole(result.the_one["content"])),
            "tokens": usage.completion_tokens,
            "generations": usage.num_calls,
            "first_s": seconds,
            "seconds": seconds,
        }


async def main() -> None:
    out, parser = claimed_output(), argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--url", required=True, help="of vLLM's server")
    options = parser.parse_args()
    verifier = json.loads((options.model / "swires.json").read_text())["verifier"]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(None)) as session:
        await answer_lines(ItsHub(session, options.url, verifier).answer, out)


if __name__ == "__main__":
    asyncio.run(main())
