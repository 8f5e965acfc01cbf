"""A program for a process of its own: random models of transformers' classes, and what they compute in float64.

``python transformers_in_float64.py FOLDER JOBS`` with JOBS the JSON of {name: {model_type, classes, config, labels,
batch}} saves each class's model under FOLDER/name/class (``save_pretrained``), and its activations beside it as
``activations.npz``: ``embeddings``, ``layer.N``, ``pooler`` where the model has one, and each output of the class by
its own name.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers


def randomise(model):
    """Fill every parameter with values that no initialisation would give."""
    torch.manual_seed(len(list(model.parameters())))
    for name, parameter in model.named_parameters():
        around = 1.0 if parameter.ndim == 1 and "norm" in name.lower() and name.endswith("weight") else 0.0
        torch.nn.init.normal_(parameter, around, 0.3)


def exact_sinusoids(model, config):
    """Replace NEZHA's tables, which transformers computes in float32 whatever the model's type."""
    for name, buffer in model.named_buffers():
        if name.endswith("positions_encoding"):
            length, _, size = buffer.shape
            far = config.max_relative_position
            p = (torch.arange(length)[None] - torch.arange(length)[:, None]).clamp(-far, far).double() + far
            frequencies = torch.tensor([10000.0 ** (-2 * i / size) for i in range(size // 2)], dtype=torch.float64)
            angles = p[..., None] * frequencies
            buffer.data = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(2)


def main(folder, jobs):
    for name, job in jobs.items():
        options = {} if job["model_type"] == "nezha" else {"attn_implementation": "eager"}
        for class_name in job["classes"]:
            cls = getattr(transformers, class_name)
            labels = job["labels"] if class_name.endswith("Classification") else 2
            config = cls.config_class(**job["config"], **options, num_labels=labels)
            model = cls(config).double().eval()
            randomise(model)
            exact_sinusoids(model, config)
            batch = {key: torch.tensor(value) for key, value in job["batch"].items()}
            if class_name.endswith("MultipleChoice"):
                # ErnieForMultipleChoice passes task_type_ids on as they are, and flattens the others.
                batch = {key: value if key == "task_type_ids" else value[:, None] for key, value in batch.items()}
            with torch.no_grad():
                found = model(**batch, output_hidden_states=True, return_dict=True)
            made = {f"layer.{index}": state for index, state in enumerate(found.hidden_states[1:])}
            made["embeddings"] = found.hidden_states[0]
            if job["model_type"] not in ("electra", "distilbert") and model.base_model.pooler is not None:
                made["pooler"] = torch.tanh(pooled(model)(found.hidden_states[-1][:, 0]))
            made |= {key: value for key, value in found.items() if key != "hidden_states"}
            target = Path(folder, name, class_name)
            model.save_pretrained(target)
            np.savez(target / "activations.npz", **{key: value.detach().numpy() for key, value in made.items()})


def pooled(model):
    """The pooler's dense layer: ALBERT's pooler is that alone."""
    return getattr(model.base_model.pooler, "dense", model.base_model.pooler)


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    main(sys.argv[1], json.loads(sys.argv[2]))
