"""Every metric of ours: its name, what it says, its labels and, of a histogram, its buckets.

No label has a value that a client can make up: policies, presets, stages, outcomes and the scorers that the server was
started with are all there is.
"""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

LATENCY_S = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
"""vLLM's family `request_latency` (vllm/v1/metrics/buckets.py), so that panels for its metrics fit ours."""

FIRST_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560),
)
"""vLLM's family `time_to_first_token`, for what may be fast."""

DEVIATIONS = (-3, -2, -1.5, -1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3)

SEARCH = ("policy", "preset")


class Families:
    """In a registry of their own, so that two servers in one process stay apart."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)

        self.searches = counter(
            "swires_searches",
            "Searches that ended, by outcome: finished; the limit that ended one with an answer; deadline, when time "
            "ran out before there was any; failed; refused; cancelled, when the client left",
            (*SEARCH, "outcome"),
        )
        self.search_seconds = histogram(
            "swires_search_seconds",
            "Seconds from a request that has been read to the end of its search, waiting included",
            SEARCH,
            buckets=LATENCY_S,
        )
        self.first_text_seconds = histogram(
            "swires_time_to_first_text_seconds",
            "Seconds from a request that has been read to the first text of its answer, which a stream sends at once",
            SEARCH,
            buckets=FIRST_S,
        )
        self.queue_seconds = histogram(
            "swires_queue_seconds", "Seconds that a search waited for its turn", buckets=LATENCY_S
        )
        self.stage_seconds = histogram(
            "swires_stage_seconds",
            "Seconds that a search spent on a stage, scoring included, each time that it came to it",
            ("policy", "stage"),
            buckets=FIRST_S,
        )
        self.retraces = counter("swires_retraces", "Times that a search went back to a stage", ("policy", "stage"))
        self.judged = counter(
            "swires_judged_searches",
            "Searches that finished under a policy with a threshold, by whether the answer passed it",
            (*SEARCH, "accepted"),
        )

        self.generations = counter("swires_generations", "Candidates sampled", ("policy", "stage"))
        self.generated_tokens = counter(
            "swires_generated_tokens",
            "Tokens of candidates, by fate: chosen for the answer; discarded for a better one; retraced, of a round "
            "that the search went back from; aborted by a limit; undone, of a stage begun early for nothing; "
            "lost with a search that gave no answer",
            ("policy", "fate"),
        )
        self.prompt_tokens = counter(
            "swires_prompt_tokens",
            "Prompt tokens of all requests to engine and scorer of searches that finished, by source: cached, computed",
            ("source",),
        )

        self.candidate_score = histogram(
            "swires_candidate_score",
            "Scores in standard deviations from the scorer's calibrated mean for the stage",
            ("scorer", "stage"),
            buckets=DEVIATIONS,
        )
        self.scorer_seconds = histogram(
            "swires_scorer_seconds", "Seconds of calls to a scorer that gave scores", ("scorer",), buckets=FIRST_S
        )
        self.scored_tokens = counter("swires_scored_tokens", "Tokens that a scorer computed", ("scorer",))
        self.scorer_faults = counter(
            "swires_scorer_faults",
            "Calls to a scorer that gave no scores, by reason: timeout, engine, error",
            ("scorer", "reason"),
        )
        self.degraded = counter("swires_scorer_degraded", "Searches that finished without some of their scores")

        self.refusals = counter("swires_refusals", "Requests answered with an error", ("status",))
        self.rejections = counter(
            "swires_admission_rejections",
            "Requests refused for want of room, by reason: waiting_full, arriving_full, draining (503), key_searches, "
            "key_tokens (429)",
            ("reason",),
        )

        self.active_searches = gauge("swires_active_searches", "Searches that run")
        self.waiting_searches = gauge("swires_waiting_searches", "Searches that wait for their turn")
        self.max_waiting = gauge("swires_max_waiting_searches", "Searches that may wait, --max-waiting")
        self.active_candidates = gauge("swires_active_candidates", "Candidates that those that run may sample at once")
        self.max_candidates = gauge("swires_max_candidates", "Candidates for which there is room, --max-candidates")
        self.engine_alive = gauge("swires_engine_alive", "1 while the engine lives, else 0")
        self.draining = gauge("swires_draining", "1 from the signal to stop on, else 0")
        self.build = Info("swires_build", "What runs: version, engine, model", registry=self.registry)
