"""The process of one side: load the checkpoint by the framework's own loader, run its forward pass, write activations.

``python -c "... main()" REQUEST RESPONSE``. The parent has read the checkpoint with its own safe reader before.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from interlingua.verify.encoders.request import Request, UnavailableError, load_batches, load_request

REFERENCES = {
    "transformers": "transformers_models",
    "uer": "uer_models",
    "transformers-tf": "transformers_tf_models",
    "keras-hub": "keras_hub_models",
    "tf-models": "tf_models",
    "paddlenlp": "paddlenlp_models",
    "paddle-ernie": "paddle_ernie_models",
    "mindone": "mindone_models",
    "own": "own",
}
"""Name of a reference -> its module here, with ``run(request, batches) -> (activations, Ran)``."""


def main() -> None:
    """Answer the request in ``sys.argv[1]`` in ``sys.argv[2]``."""
    request, response = load_request(Path(sys.argv[1])), Path(sys.argv[2])
    answer = _answer(request)
    response.write_text(json.dumps(answer), encoding="utf-8")


def _answer(request: Request) -> dict[str, Any]:
    """Run the first reference that can; return what it says, or why none could."""
    import numpy as np

    batches = load_batches(request.batches)
    refused: list[tuple[str, str]] = []
    for name in request.references:
        try:
            module = importlib.import_module(f"interlingua.verify.encoders.{REFERENCES[name]}")
            activations, ran = module.run(request, batches)
        except UnavailableError as error:
            refused.append((name, str(error)))
            continue
        except ImportError as error:
            refused.append((name, f"{type(error).__name__}: {error}"))
            continue
        except Exception as error:  # What a framework raises is the side's result, trace included.
            return {
                "error": f"{name}: {type(error).__name__}: {error}",
                "trace": traceback.format_exc()[-4000:],
                "refused": refused,
            }
        np.savez(request.output, **activations)
        return {"ran": asdict(ran), "refused": refused}
    return {"error": "no reference encoder can run here", "refused": refused}
