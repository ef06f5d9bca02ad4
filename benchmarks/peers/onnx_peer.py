"""ONNX Runtime: the network as an ONNX model, with one thread and with all of them."""

import os

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from peers.unit import Absent, Unit

OPSET, FORMAT = 17, 9
PLAIN = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "flatten": "Flatten", "identity": "Identity",
         "global_avgpool": "GlobalAveragePool", "softmax": "Softmax"}  # fmt: skip


def version():
    return f"{onnxruntime.__version__}, best of 1 and all threads"


def prepare(work, rows, arrays):
    if work["kind"] == "train":
        raise Absent("inference only")
    model = network(rows, arrays, work).SerializeToString()
    counts = sorted({1, work["threads"] or os.cpu_count()})
    return {f"{n} thread{'s' * (n > 1)}": Predict(model, arrays["x"], n) for n in counts}


def network(rows, arrays, work):
    """Make the ONNX model of `describe`'s rows."""
    nodes, tensors, at = [], [], "x"
    for row in rows:
        names = [f"{row['name']}.{key}" for key in ("W", "b") if f"initial:{row['name']}.{key}" in arrays]
        tensors += [numpy_helper.from_array(arrays[f"initial:{name}"], name) for name in names]
        nodes.append(helper.make_node(*_operator(row), [at, *names], [row["name"]], row["name"], **_attributes(row)))
        at = row["name"]
    real = TensorProto.FLOAT if work["dtype"] == "float32" else TensorProto.DOUBLE
    x = helper.make_tensor_value_info("x", real, [work["batch"], *rows[0]["in"]])
    y = helper.make_tensor_value_info(at, real, [work["batch"], *rows[-1]["out"]])
    graph = helper.make_graph(nodes, "network", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=FORMAT)


def _operator(row):
    known = {"dense": "Gemm", "conv": "Conv", "maxpool": "MaxPool", "avgpool": "AveragePool", **PLAIN}
    if row["kind"] not in known or row["options"].get("border", "zeros") != "zeros":
        raise Absent(f"{row['kind']} is not translated")
    return (known[row["kind"]],)


def _attributes(row):
    if row["kind"] == "dense":
        return {"transB": 1}
    if "kernel" not in row:
        return {"axis": 1} if row["kind"] in ("flatten", "softmax") else {}
    pads = [before for before, _ in row["padding"]] + [after for _, after in row["padding"]]
    found = {"kernel_shape": row["kernel"], "strides": row["stride"], "pads": pads}
    if row["kind"] == "conv":
        found |= {"dilations": row["dilation"], "group": row["options"]["groups"]}
    if row["kind"] == "avgpool":
        found["count_include_pad"] = int(row["options"]["count_padding"])
    return found


class Predict(Unit):
    def __init__(self, model, x, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.x = {"x": np.ascontiguousarray(x)}

    def check(self):
        return {"y": self.session.run(None, self.x)[0]}

    def run(self):
        self.session.run(None, self.x)

    def close(self):
        self.session = None
