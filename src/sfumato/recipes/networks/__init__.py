"""The network section: one of the registered kinds, or chosen from the data."""

from .auto import AutoNetwork as AutoNetwork
from .dit import DiTNetwork as DiTNetwork
from .mlp import MLPNetwork as MLPNetwork
from .section import NETWORKS as NETWORKS
from .section import NetworkSection as NetworkSection
from .unet import UNetNetwork as UNetNetwork
