"""An estimate as a row of a table, line by line, and as JSON."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict

from training.estimate.cost import (
    GB,
    LEARNED_BYTES,
    PAPER_HOURS,
    PEAK,
    TEXT_TOKENS,
    TUNED,
    Estimate,
    Learning,
    Part,
    paper_utilisation,
)


def table(estimates: Iterable[Estimate]) -> str:
    """In Markdown."""
    paper = paper_utilisation()
    titles = (
        "config",
        "weights: all, learned",
        "tokens of a record: all, picture",
        "TFLOP a record",
        "GB of 80: states + gathered + activations + reserved",
        "steps",
        f"hours at {paper:.1%}",
        f"at {TUNED:.0%}",
    )
    rows = [titles, ("---",) * len(titles), *(_row(one, paper) for one in estimates)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(one: Estimate, paper: float) -> tuple[str, ...]:
    memory = one.memory
    pieces = (memory.states, memory.gathered, memory.activations, memory.reserved)
    return (
        one.config,
        f"{one.weights / 1e9:.2f} G, {one.learned / 1e9:.2f} G",
        f"{one.record_tokens:,}, {one.seen.tokens:,}",
        f"{one.record_flops / 1e12:.0f}",
        f"{' + '.join(f'{piece / GB:.1f}' for piece in pieces)} = **{memory.total / GB:.0f}**",
        f"{one.steps:,}",
        f"{one.hours(paper):.1f}",
        f"{one.hours(TUNED):.1f}",
    )


def arithmetic(one: Estimate) -> str:
    """Line by line."""
    return "\n".join((f"{one.config} on {one.gpus} x H100", *_flops(one), *_time(one), *_memory(one)))


def _flops(one: Estimate) -> Iterator[str]:
    yield f"weights      {one.weights:,}, of which {one.learned:,} learn"
    yield f"a record     {one.record_tokens:,} tokens: {TEXT_TOKENS} of text, {one.seen.tokens:,} of a picture"
    for part in one.parts:
        if part.tokens:
            yield from _part(part, one.learning)
    yield f"  = {one.record_flops / 1e12:.1f} TFLOP"


def _part(part: Part, learning: Learning) -> Iterator[str]:
    linear, attention = learning.passes(part.tower)
    weights, tokens = f"{part.weights / 1e9:.3f} G weights", f"{part.tokens:,} tokens"
    yield f"  {part.name:<10} 2 x {weights} x {tokens} x {linear} passes = {linear * part.linear / 1e12:.1f}"
    if part.attention:
        each = f"{part.width:,} wide x {part.attended:,.0f} attended"
        yield f"  attention  4 x {each} x {tokens} x {attention} passes = {attention * part.attention / 1e12:.1f}"


def _time(one: Estimate) -> Iterator[str]:
    peak, paper = PEAK / 1e12, paper_utilisation()
    flops = f"{one.record_flops / 1e12:.1f} TFLOP x {one.records:,.0f} records"
    yield f"hours        {flops} / ({one.gpus} x {peak:.0f} TFLOP/s) = {one.hours(1):.2f} at the peak"
    yield f"             {one.hours(paper):.1f} at {paper:.1%} of it, which the paper's {PAPER_HOURS:.0f} hours were"
    yield f"             {one.hours(TUNED):.1f} at {TUNED:.0%} of it (assumed: where nothing holds the GPUs back)"
    yield f"steps        {one.records:,.0f} records / {one.gpus} GPUs with {one.batch} each = {one.steps:,}"


def _memory(one: Estimate) -> Iterator[str]:
    memory = one.memory
    inside = "what each layer was given, and the inside of one" if one.learning.checkpointing else "inside all layers"
    pieces = (
        ("states", memory.states, f"{LEARNED_BYTES} bytes for a weight that learns, others as stored, / {one.gpus}"),
        ("gathered", memory.gathered, "embeddings, two layers, and gradients, whole in bf16"),
        ("activations", memory.activations, inside),
        ("reserved", memory.reserved, "CUDA, NCCL, a tile of logits, fragments (assumed)"),
    )
    yield f"memory       of each GPU, with {one.batch} records of {one.longest:,} tokens"
    for name, number, meaning in pieces:
        yield f"  {name:<11}{number / GB:5.1f} GB  {meaning}"
    yield f"  = {memory.total / GB:.1f} GB of 80"


def as_json(one: Estimate) -> dict[str, object]:
    memory = {name: round(number) for name, number in asdict(one.memory).items()}
    return {
        "config": one.config,
        "gpus": one.gpus,
        "weights": one.weights,
        "learned": one.learned,
        "record": {"tokens": one.record_tokens, "picture": one.seen.tokens, "flops": round(one.record_flops)},
        "records": round(one.records),
        "steps": one.steps,
        "memory": memory | {"total": round(one.memory.total)},
        "hours": {
            "paper": {"utilisation": paper_utilisation(), "hours": one.hours(paper_utilisation())},
            "tuned": {"utilisation": TUNED, "hours": one.hours(TUNED)},
        },
    }
