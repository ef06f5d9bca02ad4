"""`nnjit bench [CONFIG.toml]`: the time of each layer, and the share of the machine's peak speed."""

import sys

import click

from . import options

OTHERS = 0.05  # share of the CPU used by other processes, above which times are unreliable
HEAD = ["layer", "output", "forward us", "backward us", "GFLOP/s", "of peak", "torch forward", "backward", "ratio"]


@click.command("bench")
@click.argument("config", required=False, metavar="[CONFIG.toml]")
@click.option("--layers", metavar="SPECS", help='Layers, such as "conv(8,3) relu maxpool(2) flatten dense(10)".')
@click.option("--input-shape", metavar="SIZES", help="Shape of a sample, such as 1,28,28. Default: that of the data.")
@click.option("--data", metavar="SPEC", help="Data set; only its input shape is used.")
@click.option("--loss", metavar="SPEC", help="Loss, such as cross_entropy.")
@click.option("--optimizer", metavar="SPEC", help='Optimizer, such as "adam(lr=1e-3)".')
@click.option("--batch-size", type=int, help="Samples per step; 0 means the whole set.")
@options.plugin
@click.option(
    "--set", "assignments", multiple=True, metavar="SECTION.KEY=VALUE", help="Change the config; may be repeated."
)
def bench(config, plugin, assignments, **options):
    """Time the kernels of each layer as the training program runs them, a training step and a prediction.

    Shares refer to the peak speed of this machine, measured now. If PyTorch is installed, a separate process times the
    same network with it; a ratio above 1 means that nnjit is faster. Default: the network of `nnjit run`.
    """
    network, training = _resolve(config, plugin, assignments, {k: v for k, v in options.items() if v is not None})
    from ..bench.layers import bench

    loss, optimizer, batch_size = training
    found = bench(network, loss, optimizer, batch_size, progress=_show if sys.stderr.isatty() else None)
    _print(network, found, batch_size)


def _resolve(config, plugin, assignments, overrides):
    """Return the network, and (loss, optimizer, batch size), checked as `nnjit run` checks them."""
    from .. import data
    from ..errors import UsageError
    from ..launch import launch
    from ..network.network import Network

    if "input_shape" in overrides:
        overrides["input_shape"] = list(options.sizes("--input-shape", overrides["input_shape"]))
    table, source_name = options.config_table(config, overrides, assignments, plugin)
    resolved = launch.read_config(table, source_name)
    run, model, settings, samples = resolved.config.run, resolved.config.model, resolved.settings, None
    if run.device != "cpu":
        raise UsageError("run.device: nnjit bench measures the CPU; benchmarks/gpu.py measures a GPU")
    if run.threads is not None:
        launch.use_threads(run.threads)
    batch = settings.batch_size
    if "data" in overrides or model.input_shape is None:
        dataset = data.load(resolved.reader)
        resolved = launch.complete(resolved, dataset, source_name)
        settings = resolved.settings
        network, samples = launch.build(resolved, dataset, source_name), len(dataset.train)
    else:
        shape = tuple(model.input_shape)
        network = Network(resolved.layers, shape, model.dtype, run.device, settings.seed, graph=resolved.graph)
    if batch == 0 and samples is None:
        raise UsageError("batch_size 0 is the whole data set; name it with --data, or give a number of samples")
    return network, (settings.loss, settings.optimizer, batch or samples)


def _print(network, found, batch):
    from ..bench.machine import processor
    from .text import table

    rows = [_row(layer, found.peak) for layer in found.layers]
    torch = found.torch
    rest = ["the rest of a step", "", _us(found.rest), "", "", "", "", "", ""]
    step = _total("a training step", found.step, found.flops, found.peak, torch.get("step"))
    predict = _total("a prediction", found.predict, None, found.peak, torch.get("predict"))
    table(HEAD, [*rows, rest, step, predict])
    click.echo(f"\nbatch of {batch}, {network.dtype}; {processor()}")
    click.echo(f"peak {found.peak / 1e9:.0f} GFLOP/s, memory {found.bandwidth / 1e9:.1f} GB/s (triad), measured now")
    if (found.others or 0.0) > OTHERS:
        click.echo(f"other processes used {100 * found.others:.0f} % of the CPU; rerun on an idle machine")
    click.echo(f"torch {torch['version']}, eager, the better memory format" if "version" in torch else torch["why"])


def _row(layer, peak):
    theirs = layer.torch or (None, None)
    ratio = sum(theirs) / (layer.forward + layer.backward) if layer.torch and layer.forward + layer.backward else None
    return [
        layer.name, "x".join(map(str, layer.shape)), _us(layer.forward), _us(layer.backward),
        *_rate(layer.rate, peak), *(_us(seconds) for seconds in theirs), _number(ratio),
    ]  # fmt: skip


def _total(name, seconds, flops, peak, theirs):
    rate = _rate(flops / seconds if flops else None, peak)
    return [name, "", _us(seconds), "", *rate, _us(theirs), "", _number(theirs / seconds if theirs else None)]


def _us(seconds):
    """Format seconds as microseconds with three digits; "-" for zero or None."""
    if not seconds:
        return "-"
    us = seconds * 1e6
    return f"{us:.0f}" if us >= 100 else f"{us:.1f}" if us >= 10 else f"{us:.2f}"


def _rate(rate, peak):
    return ["-", "-"] if rate is None else [f"{rate / 1e9:.1f}", f"{100 * rate / peak:.0f} %"]


def _number(value):
    return "-" if value is None else f"{value:.2f}"


def _show(words):
    """Write one line on a terminal, which the next call rewrites."""
    click.echo(f"\r\x1b[Kmeasuring: {words}" if words != "PyTorch" else "\r\x1b[K", nl=False, err=True)
