"""A machine held to narrower vectors, as an older one has: environment variables that tell nnjit and its peers so."""

WITHOUT = {"avx2": ("avx512", "avx10", "evex512")}  # beginnings of LLVM's names of the features that nnjit goes without
# Each library has its own, which mean nothing to the others. ONNX Runtime has none.
SWITCHES = {
    "avx2": {
        "torch": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
        "torch.compile": {"TORCHINDUCTOR_CPP_MARCH": "x86-64-v3"},
        "jax": {"XLA_FLAGS": "--xla_cpu_max_isa=AVX2"},
        "sklearn": {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR"},
        "c": {"CFLAGS": "-march=x86-64-v3"},
    }
}


def environment(kind):
    """Return the environment variables of all processes."""
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    for name in features:
        features[name] &= not name.startswith(WITHOUT[kind])
    found = {"NUMBA_CPU_FEATURES": features.flatten()}
    for switches in SWITCHES[kind].values():
        found |= switches
    return found


def sentence(kind):
    """Say in the report what was held, and how."""
    each = [f"{peer} by {', '.join(f'{a}={b}' for a, b in held.items())}" for peer, held in SWITCHES[kind].items()]
    return "; ".join([f"On wider vectors, all held to {kind.upper()}: nnjit by NUMBA_CPU_FEATURES", *each]) + "."
