"""What NKI had and has no more, and what took its place: names, and arguments of functions that stayed.

The names are those of the API stubs at tag v2.26.1 of aws-neuron/aws-neuron-sdk (NKI 0.1) that 0.6's lack; what
replaces them is said by nki/migration/index.rst and the release notes. `nki` raises with these words, and
`triptych lint` says them without running anything.
"""

from __future__ import annotations

_ALLOCATE = "give nl.ndarray an address=(partition, byte) instead"

NAMES = {
    "nki.FrameworkKernel": "nki.jit returns a nki.Kernel",
    "nki.baremetal": "call the kernel with NumPy arrays",
    "nki.benchmark": "use `triptych profile` here, and nrtpy's benchmark on the device",
    "nki.profile": "use `triptych profile` here, and neuron-explorer on the device",
    "nki.simulate_kernel": "use nki.simulate(kernel)(...)",
    "nki.trace": "use nki.jit",
    "nki.tensor": "annotate with nki.typing.tensor[shape]",
    "nki.compiler.allocation_scope": _ALLOCATE,
    "nki.compiler.enable_stack_allocator": _ALLOCATE,
    "nki.compiler.force_auto_alloc": "drop it: a tensor without an address is allocated by the compiler",
    "nki.compiler.multi_buffer": "make a list of tensors",
    "nki.compiler.no_reorder": "use nl.no_reorder",
    "nki.compiler.psum": f"use buffer=nl.psum; {_ALLOCATE}",
    "nki.compiler.sbuf": f"use buffer=nl.sbuf; {_ALLOCATE}",
    "nki.compiler.skip_middle_end_transformations": "drop it",
    "nki.isa.builtin_custom_op": "there is no counterpart",
    "nki.isa.tensor_copy_dynamic_dst": "use nisa.tensor_copy with dst.ap(..., scalar_offset=...)",
    "nki.isa.tensor_copy_dynamic_src": "use nisa.tensor_copy with src.ap(..., scalar_offset=...)",
    "nki.language.all_reduce": "use nki.collectives.all_reduce",
    "nki.language.arange": "use slices",
    "nki.language.atomic_rmw": "use nisa.dma_compute with reduce_op",
    "nki.language.bfp16": "use nl.bfloat16",
    "nki.language.finfo": "write the number, as -3.4028235e+38 for the smallest float32",
    "nki.language.fp32": "use nl.float32; its smallest number is -3.4028235e+38",
    "nki.language.gemm_grid": "use slices",
    "nki.language.gemm_stationary_grid": "use slices",
    "nki.language.loop_reduce": "accumulate into a tensor that is made before the loop",
    "nki.language.mgrid": "use slices",
    "nki.language.nc": "launch with kernel[2]",
    "nki.language.par_dim": "dimension 0 is the partition",
    "nki.language.spmd_dim": "launch with kernel[2]",
    "nki.language.static_cast": "copy into a tensor of the other dtype, or use .view(dtype) for its bits",
}

_MASK = "use slices that end at the tensor's edge, as t[p : min(p + 128, n)]"
_DST_DTYPE = "the dtype of dst decides"

# Arguments, by function; "*" is any function of the module.
ARGUMENTS: dict[tuple[str, str | None], str] = {
    ("nki.jit", "platform_target"): "set NEURON_PLATFORM_TARGET_OVERRIDE",
    ("nki.isa.*", "mask"): _MASK,
    ("nki.isa.*", "dtype"): _DST_DTYPE,
    ("nki.isa.affine_select", "pred"): "give pattern, channel_multiplier and cmp_op",
    ("nki.isa.dma_copy", "dst_rmw_op"): "use nisa.dma_compute with reduce_op",
    ("nki.isa.dma_copy", "unique_indices"): "use nisa.dma_compute, which has it",
    ("nki.isa.iota", "expr"): "give pattern, offset and channel_multiplier",
    ("nki.isa.memset", "shape"): "dst has the shape",
    ("nki.isa.nc_matmul", "is_moving_zero"): "it is called is_moving_onezero",
    ("nki.isa.nc_matmul", "psumAccumulateFlag"): "drop it; accumulate= decides",
    ("nki.isa.register_move", "imm"): "it is called src",
    ("nki.isa.sendrecv", "use_gpsimd_dma"): "use dma_engine=nisa.dma_engine.gpsimd_dma",
    ("nki.language.*", "mask"): _MASK,
    **{
        (f"nki.language.{kind}_range", "precise_schedule"): "drop it, and write range(n): the loop is unrolled"
        for kind in ("affine", "sequential", "static")
    },
    ("nki.language.broadcast_to", "src"): "it is called x",
    ("nki.language.copy", "src"): "it is called x",
    ("nki.language.device_print", "prefix"): "it is called print_prefix",
    ("nki.language.device_print", "x"): "it is called tensor",
    ("nki.language.empty_like", "a"): "it is called x",
    ("nki.language.expand_dims", "data"): "it is called x",
    ("nki.language.shared_constant", "dtype"): "the array's dtype decides",
    ("nki.language.softmax", "compute_dtype"): "drop it: the engines compute in float32",
    ("nki.language.zeros_like", "a"): "it is called x",
    (
        "nki.collectives.collective_permute_implicit_current_processing_rank_id",
        "num_channels",
    ): "give channel_ids to collective_permute_implicit",
}


def argument(function: str, name: str | None) -> str | None:
    """What to do instead of giving `function` (qualified) the argument `name`; None if it was not removed."""
    return ARGUMENTS.get((function, name)) or ARGUMENTS.get((f"{function.rpartition('.')[0]}.*", name))
