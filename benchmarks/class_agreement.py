"""How often samples are of the class that they were asked to be of, and how much of the data they still reach.

    sfumato train digits --budget 3m --out RUN
    sfumato train digits --budget 3m conditioning=none --out WITHOUT
    python benchmarks/class_agreement.py RUN [--without WITHOUT] [--save digits]

A small convolutional classifier learns the training part of the run's own data; its accuracy on the held-out part says
what 100 % would be. For each weight of guidance it sees samples in equal shares of the classes. Weight 1 is the model
without guidance, 0 the model without the class. Recall and coverage are measured against training data, in pixels and
in the features of an encoder that learnt from the data; those of held-out data of the same number stand beside them.
With --without, the bounds of the model and of one without classes on the same held-out data are compared, per sample.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sfumato import kinds
from sfumato.data import split
from sfumato.denoisers import Condition
from sfumato.evaluation.extraction import features_of
from sfumato.evaluation.quality import Sets, measures_of
from sfumato.evaluation.quality.intervals import intervals
from sfumato.evaluation.spaces import spaces_named
from sfumato.likelihood import Estimate, LikelihoodOptions
from sfumato.model import Model
from sfumato.runs.evaluating import rounded
from sfumato.runs.folder import RunFolder
from sfumato.runs.loading import load_with_samplers
from sfumato.runs.sources import own_data

RESULTS = Path(__file__).parent / "results" / "class_agreement.json"
SPACES = ("pixels", "own-encoder")
MEASURES = ("recall", "coverage")


def classifier(images: Tensor, labels: Tensor, classes: int, steps: int) -> nn.Module:
    """A convolutional network that knows the classes of images (n, c, h, w) in model units."""
    torch.manual_seed(0)
    channels = images.shape[1]
    network = nn.Sequential(
        *(nn.Conv2d(channels, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.Conv2d(64, 96, 3, 2, 1), nn.BatchNorm2d(96), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(4 * 96, classes)),
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for step in range(steps):
        chosen = torch.randint(len(images), (128,), generator=torch.Generator().manual_seed(step))
        loss = functional.cross_entropy(network(images[chosen]), labels[chosen], label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval().requires_grad_(False)


def seen(network: nn.Module, images: Tensor) -> Tensor:
    """The classes that the network sees."""
    return torch.cat([network(part).argmax(1) for part in images.split(500)])


def share(hits: Tensor) -> dict[str, float]:
    """A share of hits with its standard error, by the rule of succession so that 100 % has one too."""
    p, n = float(hits.double().mean()), len(hits)
    smoothed = (p * n + 1) / (n + 2)
    return {"share": p, "error": (smoothed * (1 - smoothed) / n) ** 0.5}


def agreement(
    run: Path, weights: list[float], per_class: int, steps: int, most: int | None, names: tuple[str, ...]
) -> dict[str, Any]:
    """The agreement and the recall at each weight."""
    model, dataset = load_with_samplers(run, torch.device("cpu")), own_data(RunFolder(run))
    assert isinstance(model, Model)
    assert dataset.labels is not None
    training, spec = model.recipe.training, model.spec
    train, held_out = split(len(dataset), training.held_out, training.seed)
    held_out = some(held_out, most)
    network = classifier(
        spec.encode(dataset.values[train]).float(), dataset.labels[train], len(spec.class_names), steps
    )
    right = share(seen(network, spec.encode(dataset.values[held_out]).float()) == dataset.labels[held_out])
    print(f"{run}: the classifier is right for {right['share']:.2%} of {len(held_out)} held-out images")

    asked = [name for name in spec.class_names for _ in range(per_class)]
    expected = torch.tensor([spec.class_names.index(name) for name in asked])
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    reference, other = (dataset.values[train[part]] for part in (order[: len(asked)], order[len(asked) :]))
    real = torch.cat((dataset.values[held_out], other))[: len(asked)]
    spaces = spaces_named(names, spec, train=dataset.values[train])
    measures = [m for m in measures_of(spec, False) if m.name in MEASURES]

    def reached(values: Tensor) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for space in spaces:
            sets = Sets(features_of(space, values, keep=False), features_of(space, reference))
            values_of = intervals([m.function for m in measures], sets)
            found[space.name] = {m.name: [v.value, v.low, v.high] for m, v in zip(measures, values_of, strict=True)}
        return found

    rows: dict[str, Any] = {}
    for weight in weights:
        started = time.monotonic()
        samples = model.sample(len(asked), classes=asked, guidance=weight)
        seconds = time.monotonic() - started
        agrees = share(seen(network, spec.encode(samples).float()) == expected)
        rows[f"{weight:g}"] = {**agrees, "reached": reached(rounded(samples, model)), "seconds": seconds}
        print(f"guidance {weight:g}: {agrees['share']:.1%} +- {agrees['error']:.1%}, {rows[f'{weight:g}']['reached']}")
    beside = reached(real)
    print(f"real data: {beside}")
    return {"recipe": model.recipe.name, "samples": len(asked), "classifier": right, "weights": rows, "real": beside}


def some(index: Tensor, most: int | None) -> Tensor:
    """A random part of the indices, in order."""
    order = torch.randperm(len(index), generator=torch.Generator().manual_seed(0))
    return index[order[:most].sort().values]


def bounds(run: Path, without: Path, most: int | None) -> dict[str, Any]:
    """The bounds in bits per dimension on held-out data, given its classes and of a model without any."""
    ours, theirs, dataset = kinds.load(run, "cpu"), kinds.load(without, "cpu"), own_data(RunFolder(run))
    assert dataset.labels is not None
    training = ours.recipe.training
    held_out = some(split(len(dataset), training.held_out, training.seed)[1], most)
    x_0, options = ours.spec.encode(dataset.values[held_out]), LikelihoodOptions.suited_to(ours.spec)
    conditional = ours.bound(x_0, options, cond=Condition(classes=dataset.labels[held_out]))
    plain = theirs.bound(x_0, options)
    found = {
        "count": len(x_0),
        **{name: vars(each.estimate) for name, each in (("conditional", conditional), ("unconditional", plain))},
        "difference": vars(Estimate.of(conditional.bits - plain.bits, torch.zeros(len(x_0)))),
    }
    print(found)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--without", type=Path, help="a run on the same data without classes")
    parser.add_argument("--weights", type=lambda text: [float(w) for w in text.split(",") if w], default=[0, 1, 1.5, 3])
    parser.add_argument("--per-class", type=int, default=80)
    parser.add_argument("--steps", type=int, default=1500, help="training steps of the classifier")
    parser.add_argument("--held-out", type=int, metavar="N", help="use at most N held-out images (default: all)")
    parser.add_argument("--spaces", type=lambda text: tuple(text.split(",")), default=SPACES, help="of the recall")
    parser.add_argument("--save", metavar="NAME", help=f"write into {RESULTS.name} under this name")
    args = parser.parse_args()
    found: dict[str, Any] = {}
    if args.weights:
        found = agreement(args.run, args.weights, args.per_class, args.steps, args.held_out, args.spaces)
    if args.without is not None:
        found["bounds"] = bounds(args.run, args.without, args.held_out)
    if args.save:
        known = json.loads(RESULTS.read_text())["data"] if RESULTS.is_file() else {}
        known[args.save] = {**known.get(args.save, {}), **found}
        record = {"machine": f"{platform.machine()}, torch {torch.__version__}", "data": known}
        RESULTS.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
