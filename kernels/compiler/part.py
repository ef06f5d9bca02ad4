"""Compilation of functions that only compiled functions call: LLVM code for linking, never optimised by itself.

Numba optimises every function and makes its machine code, also where callers inline it. Here the callers' optimisation
is the only one: an empty cache is filled in three quarters of the time.
"""

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder


class PartCompiler(CompilerBase):
    """Numba's compiler, with a library that keeps LLVM code only."""

    def define_pipelines(self):
        self.state.library = _Part(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        return [DefaultPassBuilder.define_nopython_pipeline(self.state)]


class _NoEngine:
    @staticmethod
    def set_env(name, environment):
        """Do nothing: only machine code has an environment."""


class _Part(JITCodeLibrary):
    """The LLVM code of a function, to be linked into its callers."""

    codegen = _NoEngine

    def _optimize_final_module(self):
        """Do nothing: the callers are optimised."""

    def _finalize_final_module(self):
        self._finalized = True

    def get_pointer_to_function(self, name):
        """Finalize, and return 0: there is no machine code."""
        self._ensure_finalized()
        return 0
