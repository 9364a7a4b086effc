"""Lets a torchvision that was linked against CUDA be imported beside a CPU-only torch.

Such a torchvision cannot load its compiled operators, yet while it is imported it registers fake kernels for two of
them, and torch refuses a kernel of an operator that was never declared. Declaring the two is enough. Where the compiled
operators do load, nothing is done.

A `.pth` file imports this module in every interpreter of the environment, the engine's worker processes too, so it must
not import torch itself.
"""

import sys
from types import ModuleType

_declared: list[object] = []  # torch withdraws the declarations of a library object that is collected


class _BeforeFakeKernels:
    """A finder that finds nothing: it acts when the import system asks where torchvision's fake kernels are."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: ModuleType | None = None) -> None:
        if name == "torchvision._meta_registrations":
            sys.meta_path.remove(_BeforeFakeKernels)
            _declare_operators()


def _declare_operators() -> None:
    import torch
    from torchvision.extension import _has_ops

    if _has_ops():
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)


sys.meta_path.insert(0, _BeforeFakeKernels)
