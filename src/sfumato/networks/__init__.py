"""Plain torch networks, ``network(x, label, cond) -> y``, independent of diffusion."""

from sfumato.networks.dit import DiT as DiT
from sfumato.networks.dropout import Dropout as Dropout
from sfumato.networks.embeddings import Fourier as Fourier
from sfumato.networks.embeddings import Sinusoidal as Sinusoidal
from sfumato.networks.execution import Configurable as Configurable
from sfumato.networks.execution import network_of as network_of
from sfumato.networks.mlp import MLP as MLP
from sfumato.networks.unet import UNet as UNet
