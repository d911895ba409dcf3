"""Random networks as chains: plain, residual and transformer; each function takes sizes, σ_w, σ_b and a seed."""

from labkit.networks.actions import CircleAction as CircleAction
from labkit.networks.actions import rotation as rotation
from labkit.networks.actions import shift as shift
from labkit.networks.mlp import mlp as mlp
from labkit.networks.resnet import conv_resnet as conv_resnet
from labkit.networks.resnet import resnet as resnet
from labkit.networks.siblings import siblings as siblings
from labkit.networks.symmetric import Gate as Gate
from labkit.networks.symmetric import Invariants as Invariants
from labkit.networks.symmetric import equivariant as equivariant
from labkit.networks.transformer import transformer as transformer

__all__ = [
    "CircleAction",
    "Gate",
    "Invariants",
    "conv_resnet",
    "equivariant",
    "mlp",
    "resnet",
    "rotation",
    "shift",
    "siblings",
    "transformer",
]
