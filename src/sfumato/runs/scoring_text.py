"""The table of ``sfumato likelihood`` as lines of text."""

from collections.abc import Mapping
from typing import Any

_TERMS = (("prior", "prior"), ("steps", "steps between levels"), ("decoder", "decoder"))
_EXPLAINED = {
    "bits": "the bound itself",
    "typicality": "|bits - mean bits of training data|",
    "complexity": "bits - bits of the best compressor",
    "norms": "Mahalanobis distance of score norms",
}
_UNTRUSTED = (
    "  ? the error in brackets cannot be trusted: few samples make most of it; give more samples, more --evaluations "
    "or, for the flow, more --probes"
)


def lines(record: Mapping[str, Any]) -> list[str]:
    """The table of a record of ``score_run``."""
    kind = "density, in the data's units" if record["density"] else "probability"
    found = [
        f"bits/dim of {record['samples']} samples ({kind}; ± standard error, error of the method in brackets)",
        *(f"  {label:<22}{_value(record['bound']['terms'][name])}" for name, label in _TERMS),
        _total("bound (-ELBO)", record["bound"]),
    ]
    if record["flow"] is not None:
        found.append(_total("flow (ODE)", record["flow"]))
    if not all(each is None or each["method_error_trusted"] for each in (record["bound"], record["flow"])):
        found.append(_UNTRUSTED)
    if record["against"] is not None:
        found += ["", f"separating {record['against']['name']} from it: AUROC, 0.5 is chance"]
        found += [
            f"  {name:<12}{each['value']:.3f}{_plus_minus(each['error'])}   {_EXPLAINED[name]}"
            for name, each in record["against"]["auroc"].items()
        ]
    return found


def _total(label: str, numbers: Mapping[str, Any]) -> str:
    method = "" if numbers["method_error"] is None else f" ({numbers['method_error']:.4f})"
    method += "" if method == "" or numbers["method_error_trusted"] else " ?"
    return f"  {label:<22}{_value(numbers)}{method}   {numbers['evaluations']:,.0f} evaluations per sample"


def _value(numbers: Mapping[str, Any]) -> str:
    return f"{numbers['bits_per_dim']:>9.4f}{_plus_minus(numbers['standard_error'])}"


def _plus_minus(error: float | None) -> str:
    return "" if error is None else f" ± {error:.4f}"
