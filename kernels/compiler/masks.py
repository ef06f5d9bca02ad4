"""Masked loads and stores of few numbers, written out number by number.

LLVM computes a loop over three numbers in a vector of four, with a mask. A load that reads only a part of what a masked
store has just written waits for memory, so that each layer of three neurons waited for the one before: an eighth of a
step of the ten points. Single numbers stay in registers.
"""

import re

FEW = 4  # numbers, at most: more would fill the registers

# Name of a stack array with the numbers of a sample, whose reads need not be kept apart (tile.read).
SAMPLE = "nnjit.sample"

VALUE = r'%[-\w.$"]+'
MASKED = re.compile(
    rf"\s*(?:({VALUE}) = )?(?:tail )?call .*@llvm\.masked\.(load|store|gather)\.v(\d+)f(\d+)\.\w+\((.*)\)((?:, !.*)?)$"
)
PLACE = re.compile(rf'\s*(%"?{re.escape(SAMPLE)}[^ ]*) = alloca ')
PART = re.compile(rf"\s*({VALUE}) = getelementptr [^,]*, ptr ({VALUE}),")
READ = re.compile(rf"\s*{VALUE} = load volatile \w+, ptr ({VALUE}),")
MASK = re.compile(r"<\d+ x i1> <([^>]*)>")


def written_out(text):
    """Return LLVM code in which masked loads, stores and gathers of at most `FEW` numbers are those of single numbers.

    The mask must be a constant; masked loads give 0 or anything where nothing is loaded.
    """
    lines = []
    for line in text.splitlines():
        found = MASKED.match(line)
        lines += _single_numbers(found, f"%masked.{len(lines)}") or [line] if found else [line]
    return "\n".join(lines) + "\n"


def promoted(text):
    """Return LLVM code in which volatile reads of the stack array `SAMPLE` are ordinary ones."""
    places, lines = set(), []
    for line in text.splitlines():
        if line.startswith("define"):
            places = set()
        part = PART.match(line)
        if found := PLACE.match(line) or (part if part and part[2] in places else None):
            places.add(found[1])
        elif (found := READ.match(line)) and found[1] in places:
            line = line.replace("load volatile", "load", 1)
        lines.append(line)
    return "\n".join(lines) + "\n"


def _single_numbers(found, name):
    """Return the lines that take the place of a masked call; none if it must stay."""
    result, what, count, bits, given, notes = found.groups()
    mask, values = MASK.search(given), re.findall(VALUE, given)
    lanes = [k for k, each in enumerate(mask[1].split(", ")) if each == "i1 true"] if mask else []
    if not 1 <= len(lanes) <= FEW or len(values) != (2 if what == "store" else 1):
        return []
    real = {"32": "float", "64": "double"}[bits]
    vector, place = f"<{count} x {real}>", values[-1]
    align, before, lines = int(bits) // 8, "zeroinitializer", []
    for k in lanes:
        at, number, after = f"{name}.at.{k}", f"{name}.number.{k}", result if k == lanes[-1] else f"{name}.{k}"
        if what == "gather":
            lines.append(f"  {at} = extractelement <{count} x ptr> {place}, i32 {k}")
        else:
            lines.append(f"  {at} = getelementptr {real}, ptr {place}, i64 {k}")
        if what == "store":
            lines.append(f"  {number} = extractelement {vector} {values[0]}, i32 {k}")
            lines.append(f"  store {real} {number}, ptr {at}, align {align}{notes}")
        else:
            lines.append(f"  {number} = load {real}, ptr {at}, align {align}{notes}")
            lines.append(f"  {after} = insertelement {vector} {before}, {real} {number}, i32 {k}")
            before = after
    return lines
