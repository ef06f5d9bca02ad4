"""Rows as a line, as Markdown, as JSON and as a chart."""

import json

OTHERS = 0.05  # largest share of the processors that other processes may use during a measurement


def time(seconds):
    """Format with three figures and a suitable unit."""
    for unit, size in (("s", 1), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)):
        if seconds >= 0.9995 * size or unit == "ns":
            return f"{seconds / size:#.3g}".rstrip(".") + f" {unit}"


def amount(row, value):
    """Format the quantity that a row measures: seconds, or megabytes."""
    return f"{value / 1e6:#.3g} MB".replace(". ", " ") if row.get("unit") == "bytes" else time(value)


def against(row):
    """Return the name of the strongest peer among those that the row's figures compare, or None."""
    asked = row["work"]["against"]
    found = {n: p["ratio"]["median"] for n, p in row["peers"].items() if n in asked and "ratio" in p}
    return min(found, key=found.get) if found else None


def ratio(row):
    """Return the time of the peer `against` over nnjit's, or None."""
    name = against(row)
    return row["peers"][name]["ratio"]["median"] if name else None


def figures(row):
    """List (peer, ratio, least, aim) of the strongest of the peers asked for, and of each that has its own figures."""
    work, found = row["work"], [] if ratio(row) is None else [(against(row), ratio(row), *_asked(row["work"]))]
    for peer, least, aim in work["also"]:
        if "ratio" in row["peers"].get(peer, {}):
            found.append((peer, row["peers"][peer]["ratio"]["median"], least, aim))
    return found


def _asked(work):
    """Return the ratios `least` and `aim`, which are None where the figures are seconds."""
    return (None, None) if in_seconds(work) else (work["least"], work["aim"])


def in_seconds(work):
    return work["seconds"] or work["kind"] == "startup"


def reached(row):
    """Return whether the row reaches all its least figures; None without a figure or a measurement."""
    if "error" in row:
        return None
    if in_seconds(row["work"]):
        return None if row["work"]["least"] is None else row["nnjit"]["time"]["median"] <= row["work"]["least"]
    verdicts = [value >= least for _, value, least, _ in figures(row) if least is not None]
    return all(verdicts) if verdicts else None


def ceiling(row, machine):
    """Format the rate and its share of the machine's: "245 GFLOP/s, 71 %", or GB/s for rows that memory bounds."""
    if "error" in row or not machine.get("ceilings"):
        return ""
    seconds, single = row["nnjit"]["time"]["median"], "one" if row["work"]["threads"] == 1 else "all"
    for key, unit, top in (("flops", "GFLOP/s", "peak"), ("bytes", "GB/s", "bandwidth")):
        if row.get(key):
            rate = row[key] / seconds
            return f"{rate / 1e9:#.3g} {unit}, {100 * rate / machine['ceilings'][top][single]:.0f} %".replace(". ", " ")
    return ""


def line(row):
    """Format a row as one line."""
    work = row["work"]
    name = f"{work['group']}: {work['name']}"
    if "error" in row:
        return f"{name}: ERROR {row['error']}"
    parts = [f"nnjit {amount(row, row['nnjit']['time']['median'])}"]
    for peer, found in row["peers"].items():
        if "error" in found:
            parts.append(f"{peer}: {found['error']}")
        else:
            parts.append(f"{peer} {amount(row, found['time']['median'])} ({found['ratio']['median']:.2f})")
            parts += filter(None, [disturbed(found)])
    return f"{name}: {', '.join(parts)}"


def disturbed(found):
    """Say how much of the CPU other processes used during a measurement, if more than `OTHERS`; else ""."""
    others = found.get("others") or 0.0
    return f"disturbed: other processes used {100 * others:.0f} % of the CPU" if others > OTHERS else ""


def _spread(row, found):
    low, high = (amount(row, found["time"][key]) for key in ("low", "high"))
    return f"{amount(row, found['time']['median'])} ({low} to {high})"


def _peer(row, name):
    found = row["peers"].get(name)
    if found is None:
        return ""
    if "error" in found:
        return found["error"]
    each = found["ratio"]
    spread = f" ({each['low']:.2f} to {each['high']:.2f})" if "low" in each else ""
    variant = f", {found['variant']}" if found.get("variant") else ""
    noise = f"; {disturbed(found)}" if disturbed(found) else ""
    return f"**{each['median']:.2f}**{spread}; {amount(row, found['time']['median'])}{variant}{noise}"


def _figure(row, key):
    work, value, which = row["work"], row["work"][key], 1 if key == "least" else 2
    if value is not None and in_seconds(work):
        return f"{value:g} s" if work["kind"] == "startup" else time(value)
    own = [f"{entry[which]:g} ({entry[0]})" for entry in work["also"]]
    return ", ".join(([] if value is None else [f"{value:g}"]) + own)


def markdown(rows, machine):
    """Format the whole report; one table for each group."""
    text = ["# nnjit against its peers", "", *_about(machine), ""]
    for group in dict.fromkeys(row["work"]["group"] for row in rows):
        own = [row for row in rows if row["work"]["group"] == group]
        peers = list(dict.fromkeys(name for row in own for name in row["peers"]))
        head = ["work", "nnjit", "rate, share", *peers, "at least", "aim", "reached"]
        text += [f"## {group[0].upper()}{group[1:]}", "", _cells(head), _cells(["---"] * len(head))]
        for row in own:
            name = row["work"]["name"]
            if "error" in row:
                text.append(_cells([name, f"ERROR: {row['error']}", *[""] * (len(head) - 2)]))
                continue
            verdict = {None: "", True: "yes", False: "no"}[reached(row)]
            peer_cells = [_peer(row, peer) for peer in peers]
            cells = [name, _spread(row, row["nnjit"]), ceiling(row, machine), *peer_cells]
            text.append(_cells([*cells, _figure(row, "least"), _figure(row, "aim"), verdict]))
        text += ["", *(line for row in own for line in _published(row))]
    return "\n".join(text)


def _published(row):
    """Lines that set published times of the row's work beside ours: seconds times cores."""
    work = row["work"]
    if not work["published"] or "error" in row:
        return []
    mine = ("nnjit, this machine", row["nnjit"]["time"]["median"], row["cores"])
    return [
        f"{work['name']}, time on so many cores, and their product:", "",
        *(f"- {who}: {time(seconds)}, {cores} cores, **{time(seconds * cores)}**"
          for who, seconds, cores in (mine, *work["published"])),
        "", f"Published by {work['source']}.", "",
    ]  # fmt: skip


def _cells(cells):
    """Format a line of a table; a bar inside a cell would begin another cell."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _about(machine):
    lines = [f"Measured on {machine['date']} on {machine['processor']}, {machine['system']}."]
    if machine.get("ceilings"):
        peak, flow = machine["ceilings"]["peak"], machine["ceilings"]["bandwidth"]
        lines.append(
            f"Measured in the same run: {peak['all'] / 1e9:.0f} GFLOP/s of float32 multiply-adds in registers"
            f" ({peak['one'] / 1e9:.0f} with one thread), {flow['all'] / 1e9:.1f} GB/s of triad"
            f" ({flow['one'] / 1e9:.1f} with one thread)."
        )
    lines += [machine["held"]] if machine.get("held") else []
    versions = "; ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return [
        *lines, f"Python {machine['python']}; {versions}.", "",
        f"Medians and quartiles of {machine['pairs']} pairs of turns. A bold number is the peer's time over nnjit's: above 1"  # noqa: E501
        " nnjit is faster. The peer's time and its fastest variant follow. Shares are of the figures above.",
    ]  # fmt: skip


def chart(rows, path):
    """Draw the ratios as bars over a line at 1, with a mark at each least figure."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [(row, *entry[:3]) for row in rows if "error" not in row for entry in figures(row)]
    if not shown:
        return
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.24 * len(shown)), layout="constrained")
    colors = {True: "tab:green", False: "tab:red", None: "tab:gray"}
    for place, (_, _, value, least) in enumerate(shown):
        color = colors[None if least is None else value >= least]
        axes.barh(place, value - 1, left=1, height=0.7, color=color)
        axes.annotate(f"{value:.2f}", (value, place), (3 if value >= 1 else -3, 0), textcoords="offset points",
                      ha="left" if value >= 1 else "right", va="center", fontsize=7)  # fmt: skip
        if least is not None:
            axes.plot([least, least], [place - 0.45, place + 0.45], color="black", linewidth=1.5)
    axes.axvline(1, color="black", linewidth=0.8)
    names = [f"{row['work']['group']}: {row['work']['name']} ({peer})" for row, peer, _, _ in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=7)
    axes.set_xscale("log")
    values = [number or 1 for row in shown for number in row[2:]]
    low, high = min(0.5, min(values)), max(2, max(values))
    room = (high / low) ** 0.12  # for the numbers next to the bars
    axes.set_xlim(low / room, high * room)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.set_ylim(len(shown) - 0.4, -0.6)
    figure.supxlabel(
        "peer's time (or memory) over nnjit's; above 1 nnjit is ahead; black marks: least figure", fontsize=9
    )
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def write(folder, rows, machine):
    """Write results.json and results.md; `chart` is drawn once at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=1), encoding="utf-8")
    (folder / "results.md").write_text(markdown(rows, machine), encoding="utf-8")
