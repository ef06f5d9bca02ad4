"""Functions whose code comes when a program needs it: callers read the address from a word of memory.

Machine code is bound when it is loaded, and kernels are shared by all programs of a process. So a kernel may be loaded
for a program that cannot reach one of its functions (`Kernel.unreached`), and a later program may need that function.
Until then the word holds the address of C's `abort`.
"""

import ctypes

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils

WORD = ".word"  # the end of a word's symbol
_words: dict = {}


def word(name):
    """Register the word of a function with LLVM, by the function's symbol; return the word's symbol."""
    symbol = name + WORD
    if symbol not in _words:
        _words[symbol] = made = ctypes.c_int64(llvm.address_of_symbol("abort") or 0)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))  # threads may still read it while the interpreter ends
        llvm.add_symbol(symbol, ctypes.addressof(made))
    return symbol


def fill(symbol, function):
    """Put the address of a registered function into a word."""
    _words[symbol].value = llvm.address_of_symbol(function)


def callee(builder, kind, symbol):
    """Return the LLVM function of a symbol, or the pointer that the word of this symbol holds."""
    if not symbol.endswith(WORD):
        return cgutils.get_or_insert_function(builder.module, kind, symbol)
    found = builder.module.globals.get(symbol)
    return builder.load(found or ir.GlobalVariable(builder.module, kind.as_pointer(), symbol))
