"""Data: sources, the contract that travels with a model, and the order in which samples are seen."""

from .augment import AUGMENTATION_LABELS as AUGMENTATION_LABELS
from .augment import AUGMENTATION_NUMBERS as AUGMENTATION_NUMBERS
from .augment import augment as augment
from .axis import Axis as Axis
from .dataset import DataOptions as DataOptions
from .dataset import Dataset as Dataset
from .folder import SizesError as SizesError
from .layouts import LAYOUTS as LAYOUTS
from .layouts import Layout as Layout
from .order import Order as Order
from .order import split as split
from .samples import Samples as Samples
from .samples import SampleSource as SampleSource
from .samples import Subset as Subset
from .sources import BUILT_IN as BUILT_IN
from .sources import applies as applies
from .sources import load as load
from .spec import DataSpec as DataSpec
from .tables import TABLES as TABLES
from .tables import write_table as write_table
from .toys import TOYS as TOYS
from .toys import Toy as Toy
from .transforms import Affine as Affine
from .transforms import Transform as Transform
