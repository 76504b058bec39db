"""What tests of the engine and of its loop share."""

SMALL_MLP = [
    "network.kind=mlp",
    "network.width=16",
    "network.depth=1",
    "network.dropout=0.1",
    "training.batch=32",
    "training.warmup=64",
]
