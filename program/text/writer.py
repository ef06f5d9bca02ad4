"""The text of a program from its plan, for people to read and for Numba to compile.

The network determines lists of calls (`Plan.passes`); around them are the functions that every program has: a step, an
epoch, a prediction. Each is a `Text`; `written` writes any of them.
"""

from .constants import constants
from .derivatives import jacobian, jvp, loss_gradient, vjp
from .head import head
from .lines import Text, written
from .places import options, places
from .prediction import by_hand, predict
from .shards import shards
from .training import entries, train_step, update

DERIVATIVES = {"gradient": loss_gradient, "vjp": vjp, "jvp": jvp, "rows": jacobian, "columns": jacobian}


def write(plan):
    """Return the source: a table, constants, functions, and the place of every array."""
    task = plan.task
    texts = [
        Text(each.name, "s, n0, n1, seed, training" + ", part" * each.split, list(each.calls)) for each in plan.passes
    ]
    if task.derivative:
        texts += [*(update(plan) if task.loss is not None else []), *DERIVATIVES[task.derivative](plan)]
    elif task.by_hand:
        texts += by_hand(plan)
    else:
        steps = shards(plan) if task.ranks > 1 else [train_step(plan), *entries(plan)] if task.loss is not None else []
        texts += [*(update(plan) if task.loss is not None else []), *steps, *predict(plan)]
    lines = [*head(plan), *constants(plan)]
    for text in texts:
        lines += ["", "", *written(text, plan)]
    return "\n".join([*lines, "", "", *options(plan), *places(plan)]) + "\n"
