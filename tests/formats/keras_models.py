"""Code that the tests run in a process with Keras, tf_keras or transformers: models, saved, loaded and dumped.

A dump is JSON: name of a weight -> its dtype, shape and bytes (an ``.npz`` would lose bfloat16).
"""

DUMP = """
import json, sys
import numpy as np

def dump(path, weights):
    arrays = {name: np.asarray(value) for name, value in weights.items()}
    with open(path, "w") as file:
        json.dump({n: [a.dtype.name, list(a.shape), a.tobytes().hex()] for n, a in arrays.items()}, file)
"""

KERAS = (
    """
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
from keras import layers

DTYPES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "bfloat16",
          "float32", "float64"]

class Everything(layers.Layer):
    def __init__(self, dtypes, **kwargs):
        super().__init__(**kwargs)
        self.dtypes = dtypes
    def get_config(self):
        return {**super().get_config(), "dtypes": self.dtypes}
    def build(self, _):
        for index, dtype in enumerate(self.dtypes):
            shape = [(), (3,), (2, 3), (0, 2), (2, 1, 3, 2)][index % 5]
            self.add_weight(shape=shape, dtype=dtype, initializer="ones", trainable=False, name=f"a_{dtype}")
    def call(self, x):
        return x

def models(bfloat16=True):
    keras.utils.set_random_seed(7)
    inner = keras.Sequential([layers.Input((5, 4)), layers.Dense(3, name="inside"), layers.Dropout(0.1)], name="inner")
    dtypes = [dtype for dtype in DTYPES if bfloat16 or dtype != "bfloat16"]
    plain = keras.Sequential([layers.Input((4,)), layers.Dense(5, name="first layer"), layers.LayerNormalization(),
                              layers.Dense(2, name="\u5c42"), Everything(dtypes, name="everything")])
    x = layers.Input((6,), dtype="int32")
    y = layers.Embedding(11, 4, name="words")(x)
    y = layers.MultiHeadAttention(2, 2, name="attention")(y, y)
    y = layers.BatchNormalization()(y)
    y = layers.Conv1D(4, 2, dtype="float16")(y)
    functional = keras.Model(x, inner(y), name="functional")
    functional.compile("adam", "mse")
    functional.optimizer.build(functional.trainable_variables)
    many = keras.Sequential([layers.Input((2,))] + [layers.Dense(2, name=f"dense_{n:03}") for n in range(30)])
    return {"plain": plain, "functional": functional, "many": many}

def legacy(model):
    found = {}
    for layer in model.layers:
        for weight in layer.trainable_weights + layer.non_trainable_weights:
            found[f"{layer.name}/{weight.path}"] = keras.ops.convert_to_numpy(weight)
    return found

def by_layer(model):
    found = {}
    def visit(layer):
        own = layer._trainable_variables + layer._non_trainable_variables
        for index, weight in enumerate(own):
            found[f"{layer.name}/{index}"] = keras.ops.convert_to_numpy(weight)
        for child in layer._layers:
            visit(child)
    visit(model)
    return found
"""
    + DUMP
)

LEGACY_MODELS = ("plain", "nested", "many")

TF_KERAS = (
    """
import tf_keras as keras
from tf_keras import layers

class Everything(layers.Layer):
    def __init__(self, dtypes, **kwargs):
        super().__init__(**kwargs)
        self.dtypes = dtypes
    def get_config(self):
        return {**super().get_config(), "dtypes": self.dtypes}
    def build(self, _):
        for index, dtype in enumerate(self.dtypes):
            shape = [(), (3,), (2, 3), (0, 2), (2, 1, 3, 2)][index % 5]
            self.add_weight(shape=shape, dtype=dtype, initializer="ones", trainable=False, name=f"a_{dtype}")
    def call(self, x):
        return x

def models(bfloat16=True):
    keras.utils.set_random_seed(7)
    keras.backend.clear_session()
    dtypes = ["int32", "int64", "uint8", "float16", "float32", "float64"] + ["bfloat16"] * bfloat16
    plain = keras.Sequential([layers.Input((4,)), layers.Dense(5, name="block/first"), layers.LayerNormalization(),
                              layers.Dense(2, name="block"), layers.Dropout(0.1),
                              Everything(dtypes, name="everything")])
    inner = keras.Sequential([layers.Input((4,)), layers.Dense(3, name="inside")], name="inner")
    x = layers.Input((6,), dtype="int32")
    y = layers.BatchNormalization()(layers.Embedding(11, 4, name="words")(x))
    nested = keras.Model(x, inner(layers.MultiHeadAttention(2, 2, name="attention")(y, y)), name="nested")
    # The list of these names is longer than one attribute may be.
    names = [f"dense_{n:03}_{'x' * 700}" for n in range(100)]
    many = keras.Sequential([layers.Input((2,))] + [layers.Dense(2, name=name) for name in names])
    return {"plain": plain, "nested": nested, "many": many}

def weights(model):
    found = {}
    for layer in model.layers:
        for weight in layer.trainable_weights + layer.non_trainable_weights:
            found[f"{layer.name}/{weight.name}"] = weight.numpy()
    return found
"""
    + DUMP
)

TRANSFORMERS = (
    """
import sys
try:
    from transformers import BertConfig, TFBertForPreTraining
except ImportError:
    print("none")
    sys.exit()

def build():
    config = BertConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, vocab_size=30,
                        max_position_embeddings=12)
    model = TFBertForPreTraining(config)
    model(model.dummy_inputs)
    return model

def weights(model):
    return {weight.name: weight.numpy() for weight in model.weights}
"""
    + DUMP
)
