"""Step times of an accelerator by the roofline, for where none were measured: an estimate, and it says so."""

from dataclasses import dataclass, fields

from deploy.bench.simulate_inputs import StepTimes

BYTES_PER_PARAMETER = 2
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True, slots=True)
class Roofline:
    """A step reads all weights and the cache of each running request, and multiplies each parameter once for a token:

    step_s(n) = overhead + max((2 P + n C K) / (B e), 2 P n / (F f)); a prefilled token 2 P / (F f) more; an image
    2 V T / (F f) more.
    """

    parameters: float = 7.6e9
    """P; the defaults are of Qwen2.5-VL-7B's language model: 28 layers, 4 key-value heads of 128, bfloat16."""
    cache_bytes_per_token: float = 2 * 28 * 4 * 128 * 2
    """K"""
    context_tokens: float = 1500
    """C, the mean of those that a running request attends to"""
    vision_parameters: float = 0.67e9
    """V"""
    patches: float = 4000
    """T, of an image"""
    bandwidth: float = 3.35e12
    """B, bytes/s; the default is of the data sheet of NVIDIA's H100 SXM"""
    flops: float = 989e12
    """F, of the same, bfloat16 without sparsity"""
    bandwidth_share: float = 0.7
    """e, assumed"""
    flops_share: float = 0.5
    """f, assumed"""
    overhead_s: float = 0.002
    """of a step besides, assumed"""

    def step_times(self, *, front_request_s: float) -> StepTimes:
        token_s = 2 * self.parameters / (self.flops * self.flops_share)
        return StepTimes(
            source=f"ESTIMATE, not measured: {self._assumed()}",
            decode_s={num: self._decode_s(num, token_s) for num in BATCHES},
            prefill_token_s=token_s,
            image_s=2 * self.vision_parameters * self.patches / (self.flops * self.flops_share),
            request_s=0,
            turnaround_s=0,
            front_request_s=front_request_s,
        )

    def _decode_s(self, num_running: int, token_s: float) -> float:
        read = BYTES_PER_PARAMETER * self.parameters + num_running * self.context_tokens * self.cache_bytes_per_token
        return self.overhead_s + max(read / (self.bandwidth * self.bandwidth_share), num_running * token_s)

    def _assumed(self) -> str:
        return ", ".join(f"{each.name} {getattr(self, each.name):g}" for each in fields(self))
