"""Compilation of functions in which all sizes are constants: loops become vectors before they are unrolled.

LLVM unrolls short loops with constant counts first, and what is left are single numbers: a loop over 16 activations
would become 16 comparisons instead of one. Here a first pass unrolls nothing, and a second one what the first has left.
Between them masks of few lanes are written out (`masks`).
"""

import llvmlite.binding as llvm
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder

from .masks import written_out

# A mark of `loops` on formulas, under which a loop of vectors would stay a loop, and what takes its place.
KEEP, VECTORIZED = '!"llvm.loop.unroll.disable"', '!"nnjit.vectorized"'


class ConstantCompiler(CompilerBase):
    """Numba's compiler, with a library that unrolls late."""

    def define_pipelines(self):
        self.state.library = _Late(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        self.state.library.enable_object_caching()
        return [DefaultPassBuilder.define_nopython_pipeline(self.state)]


class _Late(JITCodeLibrary):
    def _optimize_final_module(self):
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        options.loop_vectorization, options.slp_vectorization, options.loop_unrolling = True, False, False
        first = llvm.create_pass_builder(self._codegen._tm, options)
        first.getModulePassManager().run(self._final_module, first)
        text = str(self._final_module).replace(KEEP, VECTORIZED)
        self._final_module = llvm.parse_assembly(written_out(text))
        self._final_module.name = self.name
        passes, builder = self._codegen._module_pass_manager()
        passes.run(self._final_module, builder)
