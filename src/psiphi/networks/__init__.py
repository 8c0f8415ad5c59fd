"""Plain `nn.Module`s; your own take their place wherever one is asked for."""

from psiphi.networks._conv import ConvDecoder, ConvEncoder
from psiphi.networks._layers import First, Maxout
from psiphi.networks._mlp import MLP, Transposed
from psiphi.networks._sparse import TopK

__all__ = ["MLP", "ConvDecoder", "ConvEncoder", "First", "Maxout", "TopK", "Transposed"]
