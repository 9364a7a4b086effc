"""What the teacher is told, in our own words after LLaVA-CoT's data generation (arXiv 2411.10440, appendix B)."""

from swires.stages import Stage
from training.data.annotation.turns import Turn

CONTENTS = {
    Stage.SUMMARY: "the plan: what is asked and which way leads to the answer, without carrying it out",
    Stage.CAPTION: "what the picture shows, as far as it matters to the question, in enough detail to work from",
    Stage.REASONING: "the plan carried out step by step on what the caption holds, each step following from the last",
    Stage.CONCLUSION: "the final answer and nothing else. It means exactly what the known answer means, in its form: "
    "where that is the letter of an option, the letter alone",
}

STAGES = """\
Write a worked answer to a question about the attached picture, as teaching material for a model that will see only \
the picture and the question. The answer is known and given below, so that yours ends right; but write as somebody \
who finds it out, and never say or hint that an answer was known, given or compared with.

Write exactly four parts in this order, each between its own tags, all of them closed, and nothing before, between or \
after them:

{layout}
{earlier}
The question:
{question}

The known answer:
{answer}"""

EARLIER = """
What was said before in this conversation:
{said}
"""

JUDGEMENT = """\
Does an answer say the same as the reference? It does when it means the same, whatever the wording, units written out \
or short, letter case or further explanation. It does not when it means something else, leaves the matter open, \
gives more than one answer or declines to answer.

The reference:
{answer}

The answer:
{conclusion}

Reply with one word: valid if the answer says the same as the reference, invalid if it does not."""


def stages_prompt(turn: Turn) -> str:
    layout = "\n".join(f"{stage.opening}{content}{stage.closing}" for stage, content in CONTENTS.items())
    said = "\n".join(f"Question: {question}\nAnswer: {answer}" for question, answer in turn.earlier)
    earlier = EARLIER.format(said=said) if said else ""
    return STAGES.format(layout=layout, earlier=earlier, question=turn.question, answer=turn.answer)


def judgement_prompt(answer: str, conclusion: str) -> str:
    return JUDGEMENT.format(answer=answer, conclusion=conclusion)
