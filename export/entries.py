"""The entries for C: LLVM code that lays out a state in the caller's workspace and calls a program's function."""

from numba.core.registry import cpu_target

from ..kernels.compiler.machine_code import add_symbol
from ..kernels.counters import HEAD
from ..program.state import LEARNS

RUNNER = "nnjit.fork_runner"  # the word that holds the function which runs parallel loops; 0: loops are serial
LINE = 64  # bytes; the workspace is used from a multiple of it on
STACK = 65_536  # bytes of a workspace that lies on the stack if the caller gives none
NO_WORKSPACE = 5
# Arguments in C, as LLVM's types, and those of the program's function behind the table of the state.
ARGUMENTS = {"predict": ("x", "y"), "vjp": ("x", "dy", "y", "dx")}


def sizes(program):
    """Return bytes: where counters and the gradient lie in the workspace, and its size."""
    state = program.state
    counters = _up(state.arena.nbytes)
    gradient = counters + _up(state.counters.nbytes)
    return counters, gradient, gradient + _up(state.gradient.nbytes) + LINE


def _up(count):
    return -(-count // LINE) * LINE


def entries(name, program, functions):
    """Return the LLVM text of the entries of some functions, name -> `CFunction`, and of the weights."""
    state, codegen = program.state, cpu_target.target_context.codegen()
    lines = [f'target datalayout = "{codegen._data_layout}"', f'target triple = "{codegen._llvm_module.triple}"']
    for field in ("theta", "buffers"):
        data = getattr(state, field).tobytes()
        text = "".join(f"\\{byte:02X}" for byte in data)
        lines.append(f'@{field} = internal constant [{len(data)} x i8] c"{text}", align {LINE}')
    for each, function in functions.items():
        library, symbol = function.code
        add_symbol(f"nnjit.c_{each}", function.address, library, symbol)
        pointers = ", ".join(["ptr"] * (3 + len(ARGUMENTS[each])))
        lines.append(f'declare i32 @"nnjit.c_{each}"({pointers}, i64{", i32" if each == "vjp" else ""})')
        lines += _entry(name, each, program)
    return "\n".join(lines) + "\n"


def _entry(name, each, program):
    state, (counters, gradient, size) = program.state, sizes(program)
    given = ["x", "dy", "y", "dx", "dtheta"] if each == "vjp" else ["x", "y"]
    small = size <= STACK
    yield f"define i32 @{name}_{each}({', '.join(f'ptr %{a}' for a in [*given, 'workspace'])}) {{"
    yield "  %none = icmp eq ptr %workspace, null"
    if small:
        yield f"  %own = alloca [{size} x i8], align {LINE}"
        yield "  %start = select i1 %none, ptr %own, ptr %workspace"
    else:
        yield "  br i1 %none, label %refuse, label %go"
        yield f"refuse:\n  ret i32 {NO_WORKSPACE}\ngo:"
        yield "  %start = getelementptr i8, ptr %workspace, i64 0"
    yield "  %address = ptrtoint ptr %start to i64"
    yield f"  %above = add i64 %address, {LINE - 1}"
    yield f"  %arena = and i64 %above, {-LINE}"
    yield f"  %counters = add i64 %arena, {counters}"
    yield f"  %spare = add i64 %arena, {gradient}"
    if each == "vjp":
        yield "  %kept = ptrtoint ptr %dtheta to i64"
        yield "  %left_out = icmp eq ptr %dtheta, null"
        yield "  %gradient = select i1 %left_out, i64 %spare, i64 %kept"
    else:
        yield "  %gradient = add i64 %spare, 0"
    yield "  %counting = inttoptr i64 %counters to ptr"
    for k in range(HEAD):
        yield f"  %count{k} = getelementptr i64, ptr %counting, i64 {k}"
        yield f"  store i64 0, ptr %count{k}"
    places = {
        "theta": "ptrtoint (ptr @theta to i64)", "gradient": "%gradient", "moments": "0",
        "buffers": "ptrtoint (ptr @buffers to i64)", "arena": "%arena", "rates": "0", "log": "0",
        "counters": "%counters",
    }  # fmt: skip
    table = [program.layout + LEARNS]
    for field, place in places.items():
        table += [place, 0 if place == "0" else getattr(state, field).size]
    yield f"  %table = alloca [{len(table)} x i64], align 8"
    for k, value in enumerate(table):
        yield f"  %place{k} = getelementptr i64, ptr %table, i64 {k}"
        yield f"  store i64 {value}, ptr %place{k}"
    yield "  %result = alloca i64\n  %error = alloca ptr"
    arguments = ", ".join(f"ptr %{a}" for a in ARGUMENTS[each])
    more = ", i32 0" if each == "vjp" else ""
    yield f'  call i32 @"nnjit.c_{each}"(ptr %result, ptr %error, ptr %table, {arguments}, i64 1{more})'
    yield "  %status = load i64, ptr %result\n  %short = trunc i64 %status to i32\n  ret i32 %short\n}"
