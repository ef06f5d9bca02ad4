"""Compilation in fewer steps than Numba's, to the same machine code.

Numba optimises every function and makes its machine code, also where callers inline it. Functions that only compiled
functions call stay LLVM code for linking, so the callers' optimisation is the only one: an empty cache is filled in
three quarters of the time. nnjit's own functions skip passes for Python that they do not contain (`UNNEEDED`), 7 % of
the rest. They also lack Numba's annotation, a text with the types of all variables: it would be written into every file
of the cache, and only `nnjit check` reads that of a plug-in's functions.
"""

import llvmlite.binding as llvm
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager
from numba.core.typed_passes import AnnotateTypes, InlineOverloads, NopythonRewrites
from numba.core.untyped_passes import InlineClosureLikes

# Passes for inner functions and comprehensions, for callees that Numba inlines itself, for expressions of whole arrays.
UNNEEDED = (InlineClosureLikes, InlineOverloads, NopythonRewrites)
UNREAD = (AnnotateTypes,)


def is_own(function):
    """Return whether a function is nnjit's, not a plug-in's."""
    return (function.__module__ or "").startswith("nnjit.")


def left_out_of(function):
    """List the passes that a function does without: all of the above if it is nnjit's."""
    return UNNEEDED + UNREAD if is_own(function) else ()


def pipeline(state, left_out):
    """Return Numba's passes in nopython mode but those `left_out`."""
    made = DefaultPassBuilder.define_nopython_pipeline(state)
    manager = PassManager(made.pipeline_name)
    manager.passes = [each for each in made.passes if each[0] not in left_out]
    manager.finalize()
    return manager


class ShortCompiler(CompilerBase):
    """Numba's compiler with the short list of passes, for nnjit's kernels and programs."""

    def define_pipelines(self):
        return [pipeline(self.state, UNNEEDED + UNREAD)]


class PartCompiler(CompilerBase):
    """Numba's compiler, with a library that keeps LLVM code only."""

    def define_pipelines(self):
        self.state.library = Part(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        return [pipeline(self.state, left_out_of(self.state.func_id.func))]


class ObjectCompiler(CompilerBase):
    """Numba's compiler, with a library that makes machine code and does not load it: callees may come later."""

    def define_pipelines(self):
        self.state.library = _Object(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        self.state.library.enable_object_caching()
        return [pipeline(self.state, left_out_of(self.state.func_id.func))]


class _NoEngine:
    @staticmethod
    def set_env(name, environment):
        """Do nothing: only machine code has an environment."""


class Part(JITCodeLibrary):
    """The LLVM code of a function, to be linked into its callers."""

    codegen = _NoEngine

    @classmethod
    def loaded(cls, codegen, name, code):
        """Return the library of code from the disk."""
        made = cls(codegen, name)
        made._final_module, made._finalized = llvm.parse_bitcode(code), True
        return made

    def hide_all_but(self, name):
        """Make all functions but one internal: two processes number helpers of equal names differently."""
        for function in self._final_module.functions:
            if not function.is_declaration and function.name != name:
                function.linkage = "internal"

    def serialize_using_object_code(self):
        """Return what the cache keeps: LLVM code, since there is no machine code."""
        return self.serialize_using_bitcode()

    def _optimize_final_module(self):
        """Do nothing: the callers are optimised."""

    def _finalize_final_module(self):
        self._finalized = True

    def get_pointer_to_function(self, name):
        """Finalize, and return 0: there is no machine code."""
        self._ensure_finalized()
        return 0


class _Object(Part):
    """The machine code of a function, not loaded."""

    _optimize_final_module = JITCodeLibrary._optimize_final_module
    serialize_using_object_code = JITCodeLibrary.serialize_using_object_code

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._compiled_object, self._compiled = self._codegen._tm.emit_object(self._final_module), True
        self._finalized = True
