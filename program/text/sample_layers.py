"""The layers of a text for one sample (sample.py): the functions of each, and their calls, forward and on the way back.

Formulas are those of kernels/cpu: dense.py, softmax.py, layernorm.py, batchnorm.py, scale.py, embedding.py. Parameters
are read from theta where they lie, and their gradients are added to dtheta.
"""

import inspect
import math
from math import prod

from ..graph import Ref


def dense(text, index, node):
    """Write z = W x + b, a row of W for each z_j."""
    (W, weights), (b, biases) = node.parameters["W"], node.parameters["b"]
    n, m = weights.shape
    x, y = text.value(node.x), text.array(node.y)
    start = f"theta[{at(b, 'j')}]" if biases.size else "0.0"
    lines = [f"total = {start}", f"for k in range({m}):"]
    lines += [f"    total += theta[{at(W, f'{m} * j + k')}] * {x}[k]", f"{y}[j] = total"]
    text.element(index, node, "forward", ["theta", x, y], lines, n, {"x": x, "y": y}, result=y)


def dense_backward(text, index, node):
    """Write dW += dy x^T, db += dy and dx = W^T dy."""
    (W, weights), (b, biases) = node.parameters["W"], node.parameters["b"]
    n, m = weights.shape
    x, dy = text.value(node.x), text.delta(node.y)
    lines = [f"for k in range({m}):", f"    dtheta[{at(W, f'{m} * j + k')}] += {dy}[j] * {x}[k]"]
    arrays = {"x": x, "dy": dy}
    text.element(index, node, "backward_weight", [x, dy, "dtheta"], lines, n, arrays, "dtheta", term=dy)
    if biases.size:
        line = f"dtheta[{at(b, 'j')}] += {dy}[j]"
        text.element(index, node, "backward_bias", [dy, "dtheta"], [line], n, arrays, "dtheta")
    dx, guard, finish = text.contribute(node.x)
    lines = ["total = 0.0", f"for k in range({n}):"]
    lines += [f"    total += theta[{at(W, f'{m} * k + j')}] * {dy}[k]", f"{dx}[j] = total"]
    text.element(index, node, "backward_input", ["theta", dy, dx], lines, m, {"dy": dy, "dx": dx}, guard, result=dx)
    finish()


def elementwise(text, index, node):
    """Write y = f(x)."""
    formula = node.layer.kernel("forward", node.x.shape)
    x, y = text.value(node.x), text.array(node.y)
    line = f"{y}[j] = {value_of(text, index, node, formula, 'formula', {'x': x})}"
    text.element(index, node, "forward", [x, y], [line], prod(node.y.shape), {"x": x, "y": y})


def elementwise_backward(text, index, node):
    """Write dx = dy f'."""
    formula = node.layer.kernel("backward_input", node.x.shape)
    taken = inspect.signature(formula.function).parameters
    arrays = {key: text.value(value) for key, value in (("x", node.x), ("y", node.y)) if key in taken}
    dy = text.delta(node.y)
    dx, guard, finish = text.contribute(node.x)
    line = f"{dx}[j] = {dy}[j] * {value_of(text, index, node, formula, 'derivative', arrays)}"
    all_names = {"x": text.names[Ref("value", text.root(node.x).index)], **arrays, "dy": dy, "dx": dx}
    given = [*arrays.values(), dy, dx]
    text.element(index, node, "backward_input", given, [line], prod(node.y.shape), all_names, guard)
    finish()


def value_of(text, index, node, formula, what, arrays):
    """Return the call of a formula for number j."""
    name, scalars = text.called(index, what), scalars_of(node)
    text.formulas.append((name, formula))
    given = inspect.signature(formula.function).parameters
    return f"{name}({', '.join(f'{arrays[n]}[j]' if n in arrays else literal(scalars[n]) for n in given)})"


def residual(text, index, node):
    """Write y = x + skip."""
    x, skip, y = text.value(node.x), text.value(node.skip), text.array(node.y)
    line = f"{y}[j] = {x}[j] + {skip}[j]"
    arrays = {"x": x, "skip": skip, "y": y}
    text.element(index, node, "add", [x, skip, y], [line], prod(node.y.shape), arrays)


def residual_backward(text, index, node):
    """Pass the gradient on both ways; it is the first part of the one with respect to the skipped activation."""
    dy = text.delta(node.y)
    inside, skip = text.root(node.x), text.root(node.skip)
    for root in (inside, skip):
        if root.index in text.deltas:
            text.sum(root, text.deltas[root.index], dy, "dx" if root is text.graph.input else None)
        else:
            text.deltas[root.index] = dy


def softmax(text, index, node):
    """Write y_j = exp(x_j - max x) / sum_k exp(x_k - max x)."""
    (n,) = node.x.shape
    x, y = text.value(node.x), text.array(node.y)
    exponential, share = text.called(index, "exponential"), text.called(index, "share")
    text.define(exponential, ["j", "top", x, y], "", [f"{y}[j] = np.exp({x}[j] - top)"])
    text.define(share, ["j", "reciprocal", y], "", [f"{y}[j] = flush({y}[j] * reciprocal)"])
    lines = [f"top = {x}[0]", f"for k in range(1, {n}):", f"    if {x}[k] > top:", f"        top = {x}[k]"]
    lines += text.each(n, exponential, "top", x, y)
    lines += ["total = 0.0", f"for k in range({n}):", f"    total += {y}[k]"]
    lines += ["reciprocal = 1.0 / total", *text.each(n, share, "reciprocal", y)]
    text.whole(index, node, "forward", [x, y], lines, {"x": x, "y": y})


def softmax_backward(text, index, node):
    """Write dx_j = y_j (dy_j - sum_k dy_k y_k)."""
    (n,) = node.x.shape
    y, dy = text.value(node.y), text.delta(node.y)
    dx, guard, finish = text.contribute(node.x)
    element = text.called(index, "difference")
    text.define(element, ["j", "mean", y, dy, dx], "", [f"{dx}[j] = {y}[j] * ({dy}[j] - mean)"])
    lines = ["mean = 0.0", f"for k in range({n}):", f"    mean += {dy}[k] * {y}[k]"]
    lines += text.each(n, element, "mean", y, dy, dx)
    x = text.names[Ref("value", text.root(node.x).index)]
    text.whole(index, node, "backward_input", [y, dy, dx], lines, {"x": x, "y": y, "dy": dy, "dx": dx}, guard)
    finish()


def layernorm(text, index, node):
    """Write y = gain (x - mean) / deviation + offset; mean and 1 / deviation are kept."""
    n, (gain, _), (offset, _) = prod(node.x.shape), node.parameters["gain"], node.parameters["offset"]
    x, y, statistics = text.value(node.x), text.array(node.y), f"statistics{text.numbers[index]}"
    share, epsilon, function = repr(1 / n), literal(scalars_of(node)["epsilon"]), text.called(index, "statistics")
    lines = ["total = 0.0", f"for k in range({n}):", f"    total += {x}[k]", f"mean = total * {share}"]
    lines += ["total = 0.0", f"for k in range({n}):", f"    total += ({x}[k] - mean) * ({x}[k] - mean)"]
    lines += [f"inverse = 1.0 / np.sqrt(total * {share} + {epsilon})", f"{statistics}[0] = mean"]
    lines += [f"{statistics}[1] = inverse if inverse > 0.0 else np.nan"]  # 0: the squares overflow
    text.define(function, [x, statistics], "Mean and inverse deviation.", lines)
    text.add(f"{statistics} = cuda.local.array(2, real)")
    text.add(f"{function}({x}, {statistics})", "mean and inverse deviation")
    line = f"{y}[j] = theta[{at(gain, 'j')}] * {normal(x, statistics)} + theta[{at(offset, 'j')}]"
    text.element(index, node, "forward", ["theta", statistics, x, y], [line], n, {"x": x, "y": y})


def layernorm_backward(text, index, node):
    """Write dx = r (g - mean(g) - h mean(g h)), g = gain dy, h = (x - mean) r, r = 1 / deviation."""
    n, (gain, _), (offset, _) = prod(node.x.shape), node.parameters["gain"], node.parameters["offset"]
    x, dy, statistics = text.value(node.x), text.delta(node.y), f"statistics{text.numbers[index]}"
    arrays = {"x": x, "y": text.names[Ref("value", node.y.index)], "dy": dy}
    lines = [f"dtheta[{at(gain, 'j')}] += {dy}[j] * {normal(x, statistics)}"]
    lines += [f"dtheta[{at(offset, 'j')}] += {dy}[j]"]
    given = [statistics, x, dy, "dtheta"]
    text.element(index, node, "backward_parameters", given, lines, n, arrays, "dtheta")
    dx, guard, finish = text.contribute(node.x)
    element = text.called(index, "difference")
    line = f"{dx}[j] = {statistics}[1] * (theta[{at(gain, 'j')}] * {dy}[j] - shift"
    line += f" - ({x}[j] - {statistics}[0]) * slope)"
    text.define(element, ["j", "theta", statistics, "shift", "slope", x, dy, dx], "", [line])
    lines = ["shift, slope = 0.0, 0.0", f"for k in range({n}):"]
    lines += [f"    g = theta[{at(gain, 'k')}] * {dy}[k]", "    shift += g"]
    lines += [f"    slope += g * {normal(x, statistics, 'k')}"]
    lines += [f"shift, slope = shift * {1 / n!r}, {statistics}[1] * (slope * {1 / n!r})"]
    lines += text.each(n, element, "theta", statistics, "shift", "slope", x, dy, dx)
    given = ["theta", statistics, x, dy, dx]
    text.whole(index, node, "backward_input", given, lines, arrays | {"dx": dx}, guard)
    finish()


def batchnorm(text, index, node):
    """Write y = gain (x - m) / sqrt(v + epsilon) + offset with the running m and v."""
    gain, offset, mean, inverse = running(node)
    x, y = text.value(node.x), text.array(node.y)
    line = f"{y}[j] = {gain} * {inverse} * ({x}[j] - {mean}) + {offset}"
    given = ["theta", "buffers", x, y]
    text.element(index, node, "forward", given, [line], prod(node.x.shape), {"x": x, "y": y})


def batchnorm_backward(text, index, node):
    """Write dx = gain dy / sqrt(v + epsilon), and the gradients of gain and offset."""
    gain, _, mean, inverse = running(node)
    x, dy, n = text.value(node.x), text.delta(node.y), prod(node.x.shape)
    places = {key: at(node.parameters[key][0], "j") for key in ("gain", "offset")}
    arrays = {"x": x, "y": text.names[Ref("value", node.y.index)], "dy": dy}
    lines = [f"dtheta[{places['gain']}] += {dy}[j] * (({x}[j] - {mean}) * {inverse})"]
    lines += [f"dtheta[{places['offset']}] += {dy}[j]"]
    given = ["buffers", x, dy, "dtheta"]
    text.element(index, node, "backward_parameters", given, lines, n, arrays, "dtheta")
    dx, guard, finish = text.contribute(node.x)
    line = f"{dx}[j] = {gain} * {inverse} * {dy}[j]"
    given = ["theta", "buffers", dy, dx]
    text.element(index, node, "backward_input", given, [line], n, arrays | {"dx": dx}, guard)
    finish()


def running(node):
    """Return gain, offset, running mean and inverse deviation of channel j."""
    gain, offset = (f"theta[{at(node.parameters[key][0], 'j')}]" for key in ("gain", "offset"))
    mean, variance = (f"buffers[{at(node.buffers[f'running_{key}'][0], 'j')}]" for key in ("mean", "variance"))
    return gain, offset, mean, f"(1.0 / np.sqrt({variance} + {literal(scalars_of(node)['epsilon'])}))"


def scale(text, index, node):
    """Write y = (x - shift) / scale."""
    shift, width = shift_and_scale(node)
    x, y = text.value(node.x), text.array(node.y)
    line = f"{y}[j] = ({x}[j] - {shift}) / {width}"
    text.element(index, node, "forward", ["buffers", x, y], [line], prod(node.x.shape), {"x": x, "y": y})


def unscale(text, index, node):
    """Write y = x scale + shift."""
    shift, width = shift_and_scale(node)
    x, y = text.value(node.x), text.array(node.y)
    line = f"{y}[j] = {x}[j] * {width} + {shift}"
    text.element(index, node, "forward", ["buffers", x, y], [line], prod(node.x.shape), {"x": x, "y": y})


def scale_backward(text, index, node, operator="/"):
    """Write dx = dy / scale."""
    dy = text.delta(node.y)
    x = text.names[Ref("value", text.root(node.x).index)]
    dx, guard, finish = text.contribute(node.x)
    line = f"{dx}[j] = {dy}[j] {operator} {shift_and_scale(node)[1]}"
    arrays = {"x": x, "dy": dy, "dx": dx}
    text.element(index, node, "backward_input", ["buffers", dy, dx], [line], prod(node.x.shape), arrays, guard)
    finish()


def unscale_backward(text, index, node):
    """Write dx = dy scale."""
    scale_backward(text, index, node, "*")


def shift_and_scale(node):
    """Return shift and scale of channel j."""
    return [f"buffers[{at(node.buffers[key][0], 'j')}]" for key in ("shift", "scale")]


def embedding(text, index, node):
    """Write y = x with each code replaced by its row of the table."""
    x, y, lines = text.value(node.x), text.array(node.y), []
    for i, j, code in embedded(node):
        if code is None:
            lines.append(f"{y}[{j}] = {x}[{i}]")
            continue
        count, size, first = code
        lines += row_of(x, i, count)
        for k in range(size):
            lines.append(f"{y}[{j + k}] = theta[{at(first + k, f'{size} * row')}] if known else np.nan")
    text.whole(index, node, "forward", ["theta", x, y], lines, {"x": x, "y": y})


def embedding_backward(text, index, node):
    """Write the gradient of the rows that the codes choose, and dx: dy of what is passed on, 0 for codes."""
    x, dy, rows, passed = text.value(node.x), text.delta(node.y), [], []
    y = text.names[Ref("value", node.y.index)]
    dx, guard, finish = text.contribute(node.x)
    for i, j, code in embedded(node):
        if code is None:
            passed.append(f"{dx}[{i}] = {dy}[{j}]")
            continue
        count, size, first = code
        rows += [*row_of(x, i, count), f"for k in range({size}):"]
        rows += [f"    dtheta[{at(first, f'{size} * row + k')}] += {dy}[{j} + k] if known else np.nan"]
        passed += [*row_of(x, i, count), f"{dx}[{i}] = 0.0 if known else np.nan"]
    text.whole(index, node, "backward_table", [x, dy, "dtheta"], rows, {"x": x, "y": y, "dy": dy}, "dtheta")
    text.whole(index, node, "backward_input", [x, dy, dx], passed, {"x": x, "dy": dy, "dx": dx}, guard)
    finish()


def embedded(node):
    """Yield each number's place in x and in y, and of a code (codes, numbers of a row, the first one in theta)."""
    layer, j, first = node.layer, 0, node.parameters["table"][0]
    codes = dict(zip(layer.columns, zip(layer.counts, layer.sizes, strict=True), strict=True))
    for i in range(node.x.shape[0]):
        if i not in codes:
            yield i, j, None
            j += 1
            continue
        count, size = codes[i]
        yield i, j, (count, size, first)
        j, first = j + size, first + count * size


def row_of(x, i, count):
    """Write lines for the row that number i of x chooses, and for whether it is a code."""
    return [
        f"row = int({x}[{i}]) if 0.0 <= {x}[{i}] and {x}[{i}] < {count}.0 else 0",
        f"known = float(row) == {x}[{i}]",
    ]


def at(offset, place):
    """Write the index of a place in a vector."""
    return f"{offset} + {place}" if offset else place


def normal(x, statistics, j="j"):
    """Write (x_j - mean) / deviation."""
    return f"(({x}[{j}] - {statistics}[0]) * {statistics}[1])"


def literal(value):
    """Write an option as an expression of the text."""
    return (
        f"np.{value}".replace("np.-", "-np.") if isinstance(value, float) and not math.isfinite(value) else repr(value)
    )


def scalars_of(node):
    """Map the numbers that kernels of a node may bind to their values in prediction."""
    return {**node.layer.scalars(node.x.shape), "training": False}


# By the form of a layer (sample.py): forward, and the way back.
LAYERS = {
    "dense": (dense, dense_backward),
    "formula": (elementwise, elementwise_backward),
    "residual": (residual, residual_backward),
    "softmax": (softmax, softmax_backward),
    "layernorm": (layernorm, layernorm_backward),
    "batchnorm": (batchnorm, batchnorm_backward),
    "scale": (scale, scale_backward),
    "unscale": (unscale, unscale_backward),
    "embedding": (embedding, embedding_backward),
}
