"""Plain `nn.Module`s; your own take their place wherever one is asked for."""

from psiphi.networks._conditioned import ConditionedMLP
from psiphi.networks._conv import ConvDecoder, ConvEncoder
from psiphi.networks._embedding import Embedding
from psiphi.networks._layers import First, Maxout
from psiphi.networks._mlp import MLP, Transposed
from psiphi.networks._sparse import TopK
from psiphi.networks._unet import UNet

__all__ = [
    "MLP", "ConditionedMLP", "ConvDecoder", "ConvEncoder", "Embedding", "First", "Maxout", "TopK", "Transposed", "UNet",
]  # fmt: skip
