"""Random networks as chains: plain, residual and transformer; each function takes sizes, σ_w, σ_b and a seed."""

from labkit.networks.mlp import mlp as mlp
from labkit.networks.resnet import conv_resnet as conv_resnet
from labkit.networks.resnet import resnet as resnet
from labkit.networks.transformer import transformer as transformer

__all__ = ["conv_resnet", "mlp", "resnet", "transformer"]
