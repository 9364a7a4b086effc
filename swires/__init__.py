"""Staged answers about images, searched for with SWIRES: a pure library over an engine and a scorer."""

from swires.adaptive import Adaptive
from swires.ahead import Foresight
from swires.budget import Budget, Limit, Spend
from swires.choosing import StageUse
from swires.errors import DeadlineExceeded, EngineError, InvalidPlan, Overloaded, ScorerError, SwiresError
from swires.estimate import Cost, Estimate, estimate
from swires.events import (
    CandidateFinished,
    CandidateScored,
    Emit,
    Event,
    Retraced,
    SearchFinished,
    StageChosen,
    StageLeading,
    StageStarted,
    TextCommitted,
)
from swires.parser import Piece, Section, Splitter, parse
from swires.plan import SearchPlan
from swires.policies import POLICIES, BestOfN, Greedy, SentenceBeam, StageBeam, Swires
from swires.protocols import Chunk, Engine, Scorer, Scores, SearchPolicy
from swires.replay import Replay, StoredScores, replay
from swires.result import AnswerSection, Node, SearchResult, TokenSplit
from swires.scheduler import Scheduler
from swires.search import search
from swires.stages import Stage
from swires.types import ROOT, Candidate, Expand, Flow, Outcome, Problem, Sampling, TokenLogprob, Trajectory

__all__ = [
    "POLICIES",
    "ROOT",
    "Adaptive",
    "AnswerSection",
    "BestOfN",
    "Budget",
    "Candidate",
    "CandidateFinished",
    "CandidateScored",
    "Chunk",
    "Cost",
    "DeadlineExceeded",
    "Emit",
    "Engine",
    "EngineError",
    "Estimate",
    "Event",
    "Expand",
    "Flow",
    "Foresight",
    "Greedy",
    "InvalidPlan",
    "Limit",
    "Node",
    "Outcome",
    "Overloaded",
    "Piece",
    "Problem",
    "Replay",
    "Retraced",
    "Sampling",
    "Scheduler",
    "Scorer",
    "ScorerError",
    "Scores",
    "SearchFinished",
    "SearchPlan",
    "SearchPolicy",
    "SearchResult",
    "Section",
    "SentenceBeam",
    "Spend",
    "Splitter",
    "Stage",
    "StageBeam",
    "StageChosen",
    "StageLeading",
    "StageStarted",
    "StageUse",
    "StoredScores",
    "Swires",
    "SwiresError",
    "TextCommitted",
    "TokenLogprob",
    "TokenSplit",
    "Trajectory",
    "estimate",
    "parse",
    "replay",
    "search",
]
