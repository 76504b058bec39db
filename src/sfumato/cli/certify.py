"""Measure what a number of evaluations buys: the error of every sampler, and its order of convergence.

Without RUN the answers are exact: an oracle, a mixture of Gaussians whose denoiser is known in closed form. With RUN a
trained model is held against its own fine solution of a thousand evaluations. Oracles run on the CPU.
"""

import argparse
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.errors import InputError

from . import common

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sfumato.denoisers import Denoiser
    from sfumato.sampling.certification import Entry
    from sfumato.sampling.tableau import Tableau

EXAMPLES = """\
examples:
  sfumato certify                                    25 modes in the plane, exact
  sfumato certify oracle --oracle cosine64 --nfe 5,10,20
  sfumato certify runs/demo --methods auto,ddim,dpm++2m
"""

ORACLE = "oracle"
_FIRST = ("auto", "fitted")  # rows on top
_OF_ORACLE, _OF_MODEL = (1024, 2**14), (256, 2**18)  # samples at most, and numbers of them at most


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument(
        "target", nargs="?", default=ORACLE, metavar="RUN", help="a run or model folder, or 'oracle' (default)"
    )
    parser.add_argument("--oracle", metavar="NAME", help="modes, cosine64, ve16, flow4 or gaussian (default: modes)")
    parser.add_argument(
        "--nfe", type=common.counts, metavar="N,N", help="evaluations of the denoiser (default: 5,8,10,15,20,50,100)"
    )
    parser.add_argument("--methods", type=_names, metavar="A,B", help="which samplers (default: all)")
    parser.add_argument(
        "--samples", type=common.positive, help="starts of each (default: up to 1024 of an oracle, 256 of a model)"
    )
    parser.add_argument("--seed", type=int, default=0, help="which starts (default: 0)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="a .png; the numbers go beside it (default: certify.png in RUN)"
    )
    common.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print the tables, and draw the figure."""
    out = common.Output(args)
    picture = _place(args)
    denoiser, shape, extra, name, (most, numbers) = _target(args)
    from sfumato.sampling.certification import BUDGETS, FINE, MOST, certify, reference
    from sfumato.sampling.methods import METHODS

    methods = [m for m in args.methods or ("auto", *METHODS) if m != "fitted"]
    if args.methods and "fitted" in args.methods and not extra:
        raise InputError(f"--methods fitted: {name} has no fitted tables; drop it, or fit some with 'sfumato tune'")
    if args.methods and "fitted" not in args.methods:
        extra = {}
    unknown = [m for m in methods if m != "auto" and m not in METHODS]
    if unknown:
        raise InputError(f"--methods: '{unknown[0]}' is not known; choose from auto, {', '.join(METHODS)}")
    budgets = args.nfe or BUDGETS
    if max(budgets) > MOST:
        raise InputError(f"--nfe: {max(budgets)} is too near the fine solution's {FINE:,}; give at most {MOST}")
    if args.samples is not None and args.samples < 4:
        raise InputError(f"--samples: {args.samples} cannot be halved and compared; give at least 4")
    samples = args.samples or max(64, min(most, numbers // math.prod(shape)))
    bar = common.Bar("fine solution")
    try:
        paths, own = reference(denoiser, shape, samples, seed=args.seed, progress=bar.count)
        bar.close()
        bar = common.Bar("certifying")
        entries = certify(
            denoiser, paths, methods=methods, budgets=budgets, extra=extra, seed=args.seed, progress=bar.count
        )
        bar.close()
        bar = common.Bar("orders")
        orders = _orders(methods, bar)
    finally:
        bar.close()
    record = {
        "target": name,
        "shape": list(shape),
        "samples": samples,
        "seed": args.seed,
        "deviation": float(paths.x_0.std()),
        "fine": {"evaluations": FINE, "rms": own.rms, "median": own.median},
        "budgets": list(budgets),
        "methods": _rows(entries, orders),
    }
    for line in _tables(record):
        out.say(line)
    files = [] if picture is None else _write(record, picture)
    for path in files:
        out.say(str(path))
    out.result({**record, "files": [str(path) for path in files]})
    return 0


def _place(args: argparse.Namespace) -> Path | None:
    """Where the figure goes; None for nowhere. Refuses what cannot be written before anything is measured."""
    if args.out is None:
        return None if args.target == ORACLE else Path(args.target) / "certify.png"
    path: Path = args.out
    if path.suffix.lower() != ".png":
        raise InputError(f"--out {path}: '{path.suffix}' is not known; end it in .png")
    if path.is_dir():
        raise InputError(f"--out {path}: is a folder; give the name of a file in it")
    if not path.parent.is_dir():
        raise InputError(f"--out {path}: the folder {path.parent} does not exist; make it first")
    if not os.access(path.absolute().parent, os.W_OK):
        raise InputError(f"--out {path}: the folder {path.parent} cannot be written to; choose another")
    return path


def _target(
    args: argparse.Namespace,
) -> "tuple[Denoiser, tuple[int, ...], Mapping[str, Mapping[int, Tableau]], str, tuple[int, int]]":
    """The denoiser, the shape of its samples, tables of its own, its name, and how many samples are measured."""
    device = common.pick_device(args.device)
    if args.target == ORACLE:
        from sfumato.sampling.oracles import ORACLES

        name = args.oracle or "modes"
        if name not in ORACLES:
            raise InputError(f"--oracle {name}: is not known; choose one of {', '.join(ORACLES)}")
        denoiser = ORACLES[name]()
        return denoiser, (denoiser.distribution.means.shape[1],), {}, f"oracle {name}", _OF_ORACLE
    if args.oracle is not None:
        raise InputError(f"--oracle {args.oracle}: {args.target} is a model, not an oracle; give one of the two")
    from sfumato.model import Model

    model = Model.from_pretrained(args.target, device)
    extra = {"fitted": model.fitted} if model.fitted else {}
    return model.beliefs(), model.spec.shape, extra, str(args.target), _OF_MODEL


def _orders(methods: "Sequence[str]", bar: common.Bar) -> dict[str, float | None]:
    from sfumato.sampling.certification import measured_order

    orders: dict[str, float | None] = {}
    for i, name in enumerate(methods):
        orders[name] = measured_order(name)
        bar.count(i + 1, len(methods))
    return orders


def _rows(entries: "Sequence[Entry]", orders: dict[str, float | None]) -> list[dict[str, Any]]:
    """A row a method: auto and fitted, then the others from the smallest errors to the largest."""
    from sfumato.sampling.methods import METHODS

    rows: dict[str, dict[str, Any]] = {}
    for entry in entries:
        noisy = entry.method in METHODS and METHODS[entry.method].order is None
        row = rows.setdefault(
            entry.method,
            {"method": entry.method, "order": orders.get(entry.method), "stochastic": noisy, "entries": []},
        )
        cell = {
            "budget": entry.budget,
            "evaluations": entry.evaluations or None,
            "start_logsnr": entry.start,
            "rms": entry.errors and entry.errors.rms,
            "median": entry.errors and entry.errors.median,
            "distance": entry.distance,
            "floor": entry.floor,
            "reason": entry.reason,
        }
        row["entries"].append({key: value for key, value in cell.items() if value is not None})

    def place(row: dict[str, Any]) -> tuple[int, float]:
        if row["method"] in _FIRST:
            return _FIRST.index(row["method"]), 0.0
        logs = [math.log(max(_error(cell), 1e-300)) for cell in row["entries"] if "reason" not in cell]
        missing = len(row["entries"]) - len(logs)
        return len(_FIRST) + missing, sum(logs) / max(len(logs), 1)

    return sorted(rows.values(), key=place)


def _error(cell: dict[str, Any]) -> float:
    value: float = cell["rms"] if "rms" in cell else cell["distance"]
    return value


def _tables(record: dict[str, Any]) -> list[str]:
    """The tables for a terminal of 100 columns."""
    fine, samples = record["fine"], record["samples"]
    flows = [row for row in record["methods"] if not row["stochastic"]]
    noisy = [row for row in record["methods"] if row["stochastic"]]
    lines = [
        f"{record['target']}: {samples:,} samples of {' x '.join(map(str, record['shape']))}, seed {record['seed']}.",
        f"Errors are in the model's units, in which samples have standard deviation {record['deviation']:.2g}.",
        "*: the best of its column. -: cannot run; --json says why.",
    ]
    if flows:
        lines += [
            "",
            f"Distance to the fine solution from the same start ({fine['evaluations']:,} evaluations, itself within "
            f"{brief(fine['rms'])}): RMS",
            *_table(flows, record["budgets"], "rms"),
            "",
            f"The same of the median sample (fine solution within {brief(fine['median'])})",
            *_table(flows, record["budgets"], "median"),
        ]
    if noisy:
        floor = next((cell["floor"] for row in noisy for cell in row["entries"] if "floor" in cell), math.nan)
        lines += [
            "",
            f"Methods that add noise: distance of {samples // 2:,} samples to {samples // 2:,} exact others "
            f"(exact to exact: {brief(floor)},",
            "and what is near that is as good)",
            *_table(noisy, record["budgets"], "distance"),
        ]
    return lines


def _table(rows: list[dict[str, Any]], budgets: list[int], key: str) -> list[str]:
    """A line a method; the best of each column has a star, and an order is shown, where errors are exact numbers."""
    exact = key != "distance"
    width = max(len(row["method"]) for row in rows)
    cells = [[cell.get(key) for cell in row["entries"]] for row in rows]
    best = [min((v for v in column if exact and v is not None), default=None) for column in zip(*cells, strict=True)]
    lines = [" " * width + "".join(f"{budget:>9} " for budget in budgets) + (" order" if exact else "")]
    for row, values in zip(rows, cells, strict=True):
        shown = (
            f"{'-' if v is None else brief(v):>9}" + ("*" if v is not None and v == least else " ")
            for v, least in zip(values, best, strict=True)
        )
        order = f"{row['order']:6.2f}" if exact and row["order"] is not None else ""
        lines.append(f"{row['method']:<{width}}{''.join(shown)}{order}".rstrip())
    return lines


def brief(value: float) -> str:
    """Two digits: 0.058, 0.00055, 1.5e-5; more of large numbers, which need no exponent."""
    if 100 <= abs(value) < 1e5:
        return f"{value:.0f}"
    mantissa, _, exponent = f"{value:.2g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def _write(record: dict[str, Any], picture: Path) -> list[Path]:
    from sfumato.files import write_text, write_with
    from sfumato.report.charts.certify import certificate

    numbers = picture.with_suffix(".json")
    write_text(numbers, json.dumps(record, indent=2) + "\n")
    write_with(picture, lambda beside: certificate(record).save(beside, "PNG"))
    return [picture, numbers]


def _names(text: str) -> list[str]:
    """Names, for argparse."""
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise argparse.ArgumentTypeError(f"'{text}' names no sampler; write auto,ddim")
    return names
