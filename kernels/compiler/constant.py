"""Compilation of functions in which all sizes are constants: loops become vectors before they are unrolled.

LLVM unrolls short loops with constant counts first, and what is left are single numbers: a loop over 16 activations
would become 16 comparisons instead of one. Here a first pass unrolls nothing, and a second one what the first has left.
Between them masks of few lanes are written out (`masks`).
"""

import re

import llvmlite.binding as llvm
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase

from .masks import promoted, written_out
from .part import UNREAD, pipeline

# A mark of `loops` on formulas, under which a loop of vectors would stay a loop, and what takes its place.
KEEP, VECTORIZED = '!"llvm.loop.unroll.disable"', '!"nnjit.vectorized"'

# Attributes of a function whose vectors have at most 256 bits.
NARROW = '"prefer-vector-width"="256" "min-legal-vector-width"="0"'


class ConstantCompiler(CompilerBase):
    """Numba's compiler, with a library that unrolls late."""

    def define_pipelines(self):
        self.state.library = _Late(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        self.state.library.enable_object_caching()
        return [pipeline(self.state, UNREAD)]


class _Late(JITCodeLibrary):
    def _optimize_final_module(self):
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        options.loop_vectorization, options.slp_vectorization, options.loop_unrolling = True, False, False
        self._read(re.sub(r"^(define .*) \{$", rf"\1 {NARROW} {{", str(self._final_module), flags=re.MULTILINE))
        first = llvm.create_pass_builder(self._codegen._tm, options)
        first.getModulePassManager().run(self._final_module, first)
        text = str(self._final_module).replace(KEEP, VECTORIZED)
        self._read(promoted(written_out(text)))
        passes, builder = self._codegen._module_pass_manager()
        passes.run(self._final_module, builder)

    def _read(self, text):
        """Take LLVM code as the module."""
        self._final_module = llvm.parse_assembly(text)
        self._final_module.name = self.name
