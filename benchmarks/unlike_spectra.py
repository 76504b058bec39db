"""Do p-values find spectra unlike the training data? Transmittances of filters, read by six other filters.

The prior is the model of ``spectrometer.py``, fitted to 1,200 Munsell reflectances. Thirty Munsell spectra of the
test set and thirty filters, spread over the list of all, are measured with noise 0.01 and 0.003. ``p_value`` of a
reconstruction asks whether anything fits within the noise; ``evidence.explained`` compares log p(y) with 99 simulated
measurements.

    python benchmarks/unlike_spectra.py SPECTRA OUT RUN     OUT and RUN as written and trained for ``spectrometer.py``
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from spectrometer import MACHINE, measured, read

import sfumato
from sfumato.evidence import explained

COUNT, FILTERS, SIMULATIONS, AT = 30, 6, 99, 0.05
RESULTS = Path(__file__).parent / "results" / "unlike_spectra.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("run", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    _, test, filters, _, _, _ = measured(args.source)
    A = torch.from_numpy(read(args.out)[f"A{FILTERS}"])
    model = sfumato.load(args.run)
    strange = np.clip(filters[np.linspace(0, len(filters) - 1, COUNT).astype(int)], 0, 1)
    x = torch.from_numpy(np.concatenate([test[:COUNT], strange]))
    rows = []
    print("noise | kind | p of the residual <= 0.05 | p of the evidence <= 0.05 | <= 0.01")
    for noise in (0.01, 0.003):
        y = x @ A.T + noise * torch.randn(len(x), FILTERS, generator=torch.Generator().manual_seed(5)).double()
        residual = model.reconstruct(y, A, noise=noise, draws=64).p_value
        evidence = explained(model, y, A, noise, simulations=SIMULATIONS).p_value
        for kind, part in (("Munsell", slice(0, COUNT)), ("filters", slice(COUNT, None))):
            shares = [
                float((p[part] <= at).double().mean()) for p, at in ((residual, AT), (evidence, AT), (evidence, 0.01))
            ]
            print(noise, kind, *(f"{share:.0%}" for share in shares), sep=" | ", flush=True)
            rows.append(
                {"noise": noise, "kind": kind, "residual": shares[0], "evidence": shares[1], "evidence_0.01": shares[2]}
            )
    versions = {"sfumato": sfumato.__version__, "torch": torch.__version__, "numpy": np.__version__}
    RESULTS.write_text(json.dumps({"machine": MACHINE, "versions": versions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
