"""What of an answer a scorer is shown, and what it is to judge of it."""

from server.settings import Sees
from swires.stages import Stage
from swires.types import Trajectory


def shown(trajectory: Trajectory, sees: Sees) -> str:
    """The answer so far with its tags, or of it only the stage in which it ends."""
    text = trajectory.text
    return text if sees == "answer" else text[max(0, text.rfind(stage_judged(trajectory).opening)) :]


def stage_judged(trajectory: Trajectory) -> Stage:
    """The stage in which the newest candidate ends: the last one opened, since a candidate may span several."""
    text = trajectory.text
    opened = {text.rfind(stage.opening): stage for stage in Stage}
    return opened[max(opened)] if max(opened) >= 0 else trajectory.last.stage
