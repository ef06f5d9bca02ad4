"""The child process of an export: `python -m nnjit.export.worker TASK`, TASK a table in JSON.

Every function is compiled to LLVM code for the processor that the environment names. It is linked into one module, in
which only the entries for C can be seen, and machine code without fixed addresses is made of it.
"""

import ctypes
import gc
import json
import re
import sys
from pathlib import Path

import llvmlite.binding as llvm
from numba.core.registry import cpu_target

from ..errors import NnjitError
from ..kernels.compiler import machine_code
from ..network.compose import load
from ..program.program import Program
from ..registry import load_plugin
from . import reshape
from .entries import RUNNER, entries
from .header import header

# Functions of the C library and of libm that the code may call; others would need Python or Numba.
LIBM = ("ceil", "cos", "exp", "floor", "fma", "fmod", "log", "pow", "round", "sin", "sqrt", "trunc")
ALLOWED = {"abort", "memcpy", "memmove", "memset", *(name + kind for name in LIBM for kind in ("", "f"))}


def main(task):
    for plugin in task["plugins"]:
        load_plugin(plugin)
    network = load(task["model"])
    machine_code.recorded = {}
    without_machine_code()
    program = Program(network, batch_size=1, derivatives=True)
    functions, left_out = {}, {}
    for name in ("predict", "vjp"):
        try:
            functions[name] = program.c_function(name)
            _ = functions[name].code
        except (NnjitError, AttributeError) as error:
            if name == "predict":
                raise
            left_out[name] = str(error)
            functions.pop(name, None)
    module = linked(entries(task["name"], program, functions), machine_code.recorded)
    exported = {f"{task['name']}_{name}" for name in functions}
    hide(module, exported)
    removed(module)
    missing = {each.name for each in module.functions if each.is_declaration and not each.name.startswith("llvm.")}
    if unknown := sorted(missing - ALLOWED):
        raise NnjitError(f"the code needs functions beyond the C library: {', '.join(unknown)}")
    Path(task["object"]).write_bytes(machine().emit_object(module))
    Path(task["header"]).write_text(header(task["name"], task["cpu"], program, functions, left_out), encoding="utf-8")


def without_machine_code():
    """Stop Numba's engine from making machine code of each function: nothing runs here."""
    cpu_target.target_context.refresh()
    engine, nothing = cpu_target.target_context.codegen()._engine, ctypes.c_int64()
    engine.finalize_object = lambda: None
    engine.get_function_address = engine.get_global_value_address = lambda name: ctypes.addressof(nothing)


def machine():
    """Return LLVM's target machine for the processor that Numba compiles for, with code without fixed addresses."""
    codegen = cpu_target.target_context.codegen()
    options = {"cpu": codegen._get_host_cpu_name(), "features": codegen._get_host_cpu_features()}
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(**options, opt=3, reloc="pic", codemodel="default")


def linked(text, recorded):
    """Return the module of a text, with the code of all that it calls, from `recorded`: symbol -> (library, name)."""
    module = llvm.parse_assembly(text)
    known: set[str] = set()
    while wanted := undefined(module) - known:
        for symbol in sorted(wanted):
            known.add(symbol)
            module.link_in(part(symbol, recorded))
    return module


def undefined(module):
    """Return the names of nnjit that a module uses and does not define, and that of Numba's own function."""
    found = {each.name for each in [*module.functions, *module.global_variables] if each.is_declaration}
    return {name for name in found if name.startswith("nnjit.") or name == reshape.NAME}


def part(symbol, recorded):
    """Return the module that defines a symbol, and nothing else that can be seen."""
    if symbol == RUNNER:
        return llvm.parse_assembly(f'@"{RUNNER}" = global i64 0')  # loops run serially
    if symbol.endswith(".word"):
        function = symbol.removesuffix(".word")
        filled = function if function in recorded else "abort"
        return llvm.parse_assembly(f'declare void @"{filled}"()\n@"{symbol}" = global ptr @"{filled}"')
    if symbol != reshape.NAME and symbol not in recorded:
        raise NnjitError(f"no code of {symbol} was compiled")
    library, name = reshape.code() if symbol == reshape.NAME else recorded[symbol]
    text = re.sub(rf'@"?{re.escape(name)}"?(?![\w.$])', f'@"{symbol}"', library.get_llvm_str())
    module = llvm.parse_assembly(text)
    hide(module, {symbol})
    return module


def hide(module, seen):
    """Make all definitions internal but those of some names."""
    for each in [*module.functions, *module.global_variables]:
        if each.name in seen:
            each.linkage = "external"
        elif not each.is_declaration and not each.name.startswith("llvm."):
            each.linkage = "internal"


def removed(module):
    """Remove what nothing uses; change nothing else, so the bits stay those of calls in Python."""
    manager = llvm.create_new_module_pass_manager()
    manager.add_global_dead_code_eliminate_pass()
    builder = llvm.create_pass_builder(machine(), llvm.create_pipeline_tuning_options())
    manager.run(module, builder)


if __name__ == "__main__":
    gc.disable()  # the process ends soon; collections would take a seventh of its time
    try:
        main(json.loads(sys.argv[1]))
    except NnjitError as error:
        sys.exit(str(error))
