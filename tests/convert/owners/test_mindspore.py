"""MindSpore: models built of its own layers under the model zoo's field names, saved and loaded by its own functions.

The zoo is no package, so its classes stand here once more, as short as names and outputs allow; they were held
against the zoo's own code (mindspore-ai/models at eab643f, run by MindSpore 2.10), which has these names and
gives these outputs.
"""

from __future__ import annotations

import importlib.util
import json

import pytest

from tests.frameworks import run_in

CASES = {
    "bert": ["Model", "PreTraining", "Classifier", "Tagger", "Span"],
    "ernie": ["Model", "PreTraining", "Classifier", "Tagger", "Span"],
    "albert": ["Model", "Classifier", "Span"],
}
"""System -> the models that are run; the zoo's ALBERT cannot compute its masked-LM head (its sizes disagree)."""

HEADS = {
    "Model": ["pooler"],
    "PreTraining": ["pooler", "masked_lm", "next_sentence"],
    "Classifier": ["pooler", "sequence_classification"],
    "Tagger": ["pooler", "token_classification"],
    "Span": ["pooler", "span_qa"],
}

ALL = [(system, model) for system, models in CASES.items() for model in models]

UNPOOLED = ("Tagger", "Span")
"""Models whose pooler MindSpore's class has and computes for nothing, and transformers' class has not."""

RUN = """
import json, os, sys
from pathlib import Path
import mindspore as ms
import numpy as np
import torch, transformers
from mindspore import Parameter, Tensor, nn, ops
import interlingua

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
ms.set_context(mode=ms.PYNATIVE_MODE, device_target="CPU")
V, H, N, I, P, L, LABELS, E = 37, 12, 6, 20, 17, 3, 5, 8
rng = np.random.default_rng(0)
ids, seg = rng.integers(0, V, (2, P)).astype("i4"), rng.integers(0, 2, (2, P)).astype("i4")
mask = np.ones((2, P), "i4"); mask[1, 9:] = 0
ACTIVATION = {"bert": "gelu", "ernie": "relu", "albert": "gelu"}

def cell(**fields):
    made = nn.Cell()
    for name, field in fields.items():
        setattr(made, name, field)
    return made

def table(rows, width):
    return Parameter(Tensor(np.zeros((rows, width), "f4")), requires_grad=True)

class Layer(nn.Cell):
    def __init__(self, act):
        super().__init__()
        self.attention = cell(
            attention=cell(query_layer=nn.Dense(H, H), key_layer=nn.Dense(H, H), value_layer=nn.Dense(H, H)),
            output=cell(dense=nn.Dense(H, H), layernorm=nn.LayerNorm((H,))),
        )
        self.intermediate = nn.Dense(H, I, activation=act)
        self.output = cell(dense=nn.Dense(I, H), layernorm=nn.LayerNorm((H,)))

    def construct(self, x, adder):
        split = lambda y: y.reshape(2, P, N, H // N).transpose(0, 2, 1, 3)
        own = self.attention.attention
        q, k, v = split(own.query_layer(x)), split(own.key_layer(x)), split(own.value_layer(x))
        scores = ops.matmul(q, k.transpose(0, 1, 3, 2)) / float(np.sqrt(H // N)) + adder
        seen = ops.matmul(ops.softmax(scores), v).transpose(0, 2, 1, 3).reshape(2, P, H)
        x = self.attention.output.layernorm(x + self.attention.output.dense(seen))
        return self.output.layernorm(x + self.output.dense(self.intermediate(x)))

class Model(nn.Cell):
    def __init__(self, system):
        super().__init__()
        self.system, act = system, ACTIVATION[system]
        width = E if system == "albert" else H
        lookup = cell(embedding_table=table(V, width)) if system == "albert" else nn.Embedding(V, width)
        if system == "albert":
            post = cell(embedding_table=table(2, width), full_position_embeddings=table(P, width))
            inner = [cell(inner_group=nn.CellList([Layer(act)]))]
            encoder = cell(embedding_hidden_mapping_in=nn.Dense(width, H), group=nn.CellList(inner))
        else:
            post = cell(token_type_embedding=nn.Embedding(2, H), full_position_embedding=nn.Embedding(P, H))
            encoder = cell(layers=nn.CellList([Layer(act) for _ in range(L)]))
        post.layernorm = nn.LayerNorm((width,))
        setattr(self, system + "_embedding_lookup", lookup)
        setattr(self, system + "_embedding_postprocessor", post)
        setattr(self, system + "_encoder", encoder)
        self.dense = nn.Dense(H, H, activation="tanh")

    def construct(self):
        lookup, post, encoder = (
            getattr(self, self.system + part) for part in ("_embedding_lookup", "_embedding_postprocessor", "_encoder")
        )
        if self.system == "albert":
            types, positions = post.embedding_table, post.full_position_embeddings
            layers = [encoder.group[0].inner_group[0]] * L
        else:
            types, positions = post.token_type_embedding.embedding_table, post.full_position_embedding.embedding_table
            layers = encoder.layers
        x = post.layernorm(lookup.embedding_table[Tensor(ids)] + types[Tensor(seg)] + positions[:P])
        if self.system == "albert":
            x = encoder.embedding_hidden_mapping_in(x)
        adder = Tensor(((1 - mask[:, None, None, :]) * -10000).astype("f4"))
        for layer in layers:
            x = layer(x, adder)
        return x, self.dense(x[:, 0])

def words(model):
    return getattr(model, model.system + "_embedding_lookup").embedding_table

def headed(system, name, model):
    if name == "Model":
        return cell(**{system: model})
    if name == "PreTraining":
        cls1 = cell(dense=nn.Dense(H, H, activation=ACTIVATION[system]), layernorm=nn.LayerNorm((H,)))
        cls1.output_bias = Parameter(Tensor(np.zeros(V, "f4")))
        return cell(**{system: model}, cls1=cls1, cls2=cell(dense=nn.Dense(H, 2)))
    if name == "Span":
        return cell(**{system: model}, dense1=nn.Dense(H, 2))
    return cell(**{system: model}, dense_1=nn.Dense(H, LABELS))

def run(name, model, head):
    x, pooled = model()
    if name == "Model":
        return [x, pooled]
    if name == "PreTraining":
        logits = ops.matmul(head.cls1.layernorm(head.cls1.dense(x)), words(model).T) + head.cls1.output_bias
        return [logits, head.cls2.dense(pooled)]
    if name == "Span":
        logits = head.dense1(x)
        return [logits[..., 0], logits[..., 1]]
    return [head.dense_1(pooled if name == "Classifier" else x)]

CLASSES = {
    "Model": "Model", "PreTraining": "ForPreTraining", "Classifier": "ForSequenceClassification",
    "Tagger": "ForTokenClassification", "Span": "ForQuestionAnswering",
}
SCRIPTS = {"Tagger": "run_ner", "Span": "run_squad"}

def yaml(system, name):
    return (
        f"# one of the zoo's files\\ndescription: '{SCRIPTS.get(name, 'run_classifier')}'\\nnum_class: {LABELS}\\n"
        f"{system}_net_cfg:\\n    seq_length: {P}\\n    vocab_size: {V}\\n    hidden_size: {H}\\n"
        f"    num_hidden_layers: {L}\\n    num_attention_heads: {N}\\n    intermediate_size: {I}\\n"
        f"    hidden_act: \\"{ACTIVATION[system]}\\"\\n    hidden_dropout_prob: 0.2\\n"
        f"    attention_probs_dropout_prob: 0.3\\n    max_position_embeddings: {P}\\n    type_vocab_size: 2\\n"
        "    initializer_range: 0.04\\n    use_relative_positions: False\\n    dtype: mstype.float32\\n"
        "    compute_type: mstype.float16\\n"
        + (f"    embedding_size: {E}\\n    num_hidden_groups: 1\\n" if system == "albert" else "")
        + "---\\nhelp: 'the second document'\\n"
    ).encode()

def same(one, other):
    return sorted(one) == sorted(other) and all((one[n].asnumpy() == other[n].asnumpy()).all() for n in one)

def check(folder, system, name):
    model = Model(system)
    head = headed(system, name, model)
    net = cell(**{"bert" if name == "PreTraining" else system: head})
    net.set_train(False)
    for parameter in net.get_parameters():
        parameter.set_data(Tensor(rng.standard_normal(parameter.shape).astype("f4") * 0.3))
    optimizer = nn.AdamWeightDecay(net.trainable_params())
    for parameter in optimizer.get_parameters():
        if parameter.name.startswith("adam_"):
            parameter.set_data(Tensor(rng.standard_normal(parameter.shape).astype("f4")))
    saved = {p.name: p for p in (*net.get_parameters(), *optimizer.get_parameters())}
    folder.mkdir()
    ms.save_checkpoint(
        [{"name": key, "data": value} for key, value in saved.items()], str(folder / "some.ckpt"),
        append_dict={"epoch_num": 3, "step_num": 400},
    )
    (folder / "task_classifier_config.yaml").write_bytes(yaml(system, name))
    (folder / "vocab.txt").write_bytes("".join(f"t{i}\\r\\n" for i in range(V)).encode())
    with interlingua.open(folder) as seen:
        what = [seen.dialect, seen.family, list(seen.heads)]
        left = {reason for native, reason in seen.match.leftovers.items()}
    interlingua.convert(folder, folder / "hf", to="hf")
    cls = getattr(transformers, system.capitalize() + CLASSES[name])
    theirs, info = cls.from_pretrained(folder / "hf", output_loading_info=True, attn_implementation="eager")
    theirs.eval()
    faults = [sorted(map(str, info[kind])) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")]
    with torch.no_grad():
        out = theirs(
            torch.tensor(ids).long(), attention_mask=torch.tensor(mask).long(), token_type_ids=torch.tensor(seg).long()
        ).to_tuple()
    mine = [o.asnumpy() for o in run(name, model, head)]
    real = lambda a: a[mask == 1] if a.ndim > 1 and a.shape[:2] == mask.shape else a
    apart = max(float(np.abs(real(a) - real(b.numpy())).max()) for a, b in zip(mine, out))

    interlingua.convert(folder / "hf", folder / "back", to="mindspore")
    first, back = (ms.load_checkpoint(str(next(f.glob("*.ckpt")))) for f in (folder, folder / "back"))
    again = same(first, back)
    texts = (folder / "back" / f"{system}_config.yaml").read_bytes() == yaml(system, name)
    texts &= (folder / "back" / "vocab.txt").read_bytes() == (folder / "vocab.txt").read_bytes()

    # What transformers saves goes into MindSpore's own model, with nothing that came from there.
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.3)
    theirs.save_pretrained(folder / "fresh")
    interlingua.convert(folder / "fresh", folder / "written", to="mindspore")
    written = ms.load_checkpoint(str(folder / "written" / f"{system}.ckpt"))
    # The first list has the network's names that the file lacks, the second the file's that the network lacks.
    lacks = ms.load_param_into_net(net, written, strict_load=True)
    with torch.no_grad():
        out = theirs(
            torch.tensor(ids).long(), attention_mask=torch.tensor(mask).long(), token_type_ids=torch.tensor(seg).long()
        ).to_tuple()
    mine = [o.asnumpy() for o in run(name, model, head)]
    apart = max(apart, *(float(np.abs(real(a) - real(b.numpy())).max()) for a, b in zip(mine, out)))
    return what, sorted(left), faults, apart, again, texts, lacks

found = {}
for system, models in json.loads(sys.argv[2]).items():
    for name in models:
        found[f"{system} {name}"] = check(Path(sys.argv[1]) / (system + name), system, name)
print("FOUND", json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    # transformers is what the outputs are held against.
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    out = run_in("mindspore", RUN, tmp_path_factory.mktemp("mindspore"), json.dumps(CASES))
    return json.loads(out.partition("FOUND ")[2])


@pytest.mark.parametrize(("system", "model"), ALL)
def test_a_model_of_the_zoo_computes_the_same_in_transformers(found: dict, system: str, model: str) -> None:
    what, left, (missing, unexpected, mismatched), apart, *_ = found[f"{system} {model}"]
    assert what == ["mindspore", system, HEADS[model]]
    assert left == ["state of a training run"]
    pooler = [name for name in unexpected if ".pooler." in name]
    assert (missing, mismatched, unexpected) == ([], [], pooler if model in UNPOOLED else [])
    assert apart < 1e-5


@pytest.mark.parametrize(("system", "model"), ALL)
def test_a_model_of_the_zoo_comes_back_with_optimizer_configuration_and_vocabulary(
    found: dict, system: str, model: str
) -> None:
    *_, again, texts, _ = found[f"{system} {model}"]
    assert again
    assert texts


@pytest.mark.parametrize(("system", "model"), ALL)
def test_the_zoos_own_model_loads_what_comes_from_transformers(found: dict, system: str, model: str) -> None:
    lacking, surplus = found[f"{system} {model}"][-1]
    assert surplus == []
    pooler = [name for name in lacking if name.endswith((f"{system}.dense.weight", f"{system}.dense.bias"))]
    assert lacking == (pooler if model in UNPOOLED else [])
