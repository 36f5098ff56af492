"""An ablation and benchmarking harness for temporally-adaptive convolutions (TAdaConv, arXiv:2110.06178)."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tadaconv.models import plug_in as plug_in
    from tadaconv.nn import TAdaConv2d as TAdaConv2d
    from tadaconv.spec import TAda as TAda

_HOMES = {"TAdaConv2d": "tadaconv.nn", "plug_in": "tadaconv.models", "TAda": "tadaconv.spec"}


def __getattr__(name: str) -> Any:
    # Names that need torch are imported when first used: reports and listings run without waiting for it.
    if name not in _HOMES:
        raise AttributeError(f"module 'tadaconv' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
