"""Built-in sources: scikit-learn's digits, and samples of the toys."""

import numpy as np

from .dataset import Content, DataOptions
from .images import GRAY
from .toys import TOYS


def read_digits() -> Content:
    """The 1,797 handwritten digits of 8 x 8 pixels (E. Alpaydin & C. Kaynak, UCI), 17 gray levels, 0 for paper."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return Content(
        values=images.reshape(-1, 1, 8, 8).astype(np.uint8),
        layout="image",
        bounds=(0.0, 16.0),
        levels=17,
        channels=GRAY,
        labels=labels.astype(np.int64),
        class_names=tuple("0123456789"),
    )


def read_toy(name: str, options: DataOptions) -> Content:
    """``options.count`` samples of a toy, drawn with ``options.seed``."""
    return Content(values=TOYS[name].sample(options.count, options.seed).numpy(), layout="vector")
