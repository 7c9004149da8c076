"""What a user of PyTorch would call instead, for each op: several by name where PyTorch has several.

A rival takes an op's tensors and params and gives a call without arguments. What a user would do once, as the layout
of a weight, is done before it. The call returns a tensor, or all outputs of the op in their order; inputs that the op
changes it changes too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from triptych.harness.collection.attentions.forward import torch_attention
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op

Call = Callable[[], Any]
Rival = Callable[..., Call]
SDPA = {"flash": "FLASH_ATTENTION", "cudnn": "CUDNN_ATTENTION", "efficient": "EFFICIENT_ATTENTION", "math": "MATH"}


def rivals(op: Op, case: Case) -> Mapping[str, Rival]:
    """The rivals of an op by name; one that needs no name is called ""."""
    found = dict(RIVALS.get(op.name, {}))
    if op.torch is not None:
        function = op.torch
        found = {"": lambda **given: lambda: function(**given), **found}
    if op.name in TF32 and case.dtype == "float32" and "" in found:
        found["tf32"] = in_tf32(found[""])
    return found


def in_tf32(rival: Rival) -> Rival:
    """A rival whose float32 products are made in TF32."""

    def prepared(**given: Any) -> Call:
        import torch

        call = rival(**given)

        def shortened() -> Any:
            torch.backends.cuda.matmul.allow_tf32 = True
            try:
                return call()
            finally:
                torch.backends.cuda.matmul.allow_tf32 = False

        return shortened

    return prepared


def by_sdpa(rival: Callable[..., Call]) -> dict[str, Rival]:
    """A rival once with each implementation of scaled_dot_product_attention."""
    return {name: pinned(rival, backend) for name, backend in SDPA.items()}


def pinned(rival: Rival, backend: str) -> Rival:
    def prepared(**given: Any) -> Call:
        from torch.nn.attention import SDPBackend, sdpa_kernel

        chosen = getattr(SDPBackend, backend)
        with sdpa_kernel(chosen):
            call = rival(**given)

        def with_it() -> Any:
            with sdpa_kernel(chosen):
                return call()

        return with_it

    return prepared


def sdpa(q: Any, k: Any, v: Any, causal: bool = False, **others: Any) -> Call:
    """A single query sees every key, and needs no mask; grouped heads are asked for where there are any."""
    from torch.nn.functional import scaled_dot_product_attention

    is_causal, grouped = causal and q.shape[2] > 1, q.shape[1] != k.shape[1]
    if is_causal and q.shape[2] != k.shape[2]:
        return lambda: torch_attention(q, k, v, causal)
    return lambda: scaled_dot_product_attention(q, k, v, is_causal=is_causal, enable_gqa=grouped)


def sdpa_masked(q: Any, k: Any, v: Any, mask: Any, **others: Any) -> Call:
    from torch.nn.functional import scaled_dot_product_attention

    return lambda: scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


def sdpa_window(q: Any, k: Any, v: Any, causal: bool, window: int) -> Call:
    """With a mask of bools, made once."""
    import torch

    shift = k.shape[2] - q.shape[2]
    seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril(shift).triu(shift - window + 1)
    return sdpa_masked(q, k, v, seen)


def sdpa_packed(q: Any, k: Any, v: Any, segments: Any, **others: Any) -> Call:
    """With a mask of bools, made once."""
    seen = (segments[:, None, :, None] == segments[:, None, None, :]).tril()
    return sdpa_masked(q, k, v, seen)


def sdpa_decode(q: Any, k_new: Any, v_new: Any, k_cache: Any, v_cache: Any, lengths: Any) -> Call:
    """The new tokens written by index, then attention over the whole cache under a mask that was made once."""
    import torch

    tokens, places = q.shape[2], torch.arange(k_cache.shape[2], device=q.device)
    at = lengths[:, None].long() + torch.arange(tokens, device=q.device)
    batch = torch.arange(len(q), device=q.device)[:, None]
    attend = sdpa_masked(q, k_cache, v_cache, (places <= at[:, :, None])[:, None])

    def call() -> Any:
        k_cache[batch, :, at] = k_new.transpose(1, 2)
        v_cache[batch, :, at] = v_new.transpose(1, 2)
        return attend()

    return call


def sdpa_backward(q: Any, k: Any, v: Any, dout: Any, causal: bool = False, **saved: Any) -> Call:
    """autograd of one forward, which is not timed."""
    import torch

    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    out = sdpa(leaves[0], leaves[1], leaves[2], causal)()
    return lambda: torch.autograd.grad(out, leaves, dout, retain_graph=True)


def rms_norm(x: Any, gain: Any, eps: float = 1e-5) -> Call:
    from torch.nn.functional import rms_norm as function

    return lambda: function(x, gain.shape, gain, eps)


def rms_norm_backward(x: Any, gain: Any, dy: Any, residual: Any = None, eps: float = 1e-5) -> Call:
    """autograd of one forward in float32, which is not timed; rounded once, behind the residual."""
    import torch

    leaves = [a.detach().float().requires_grad_() for a in (x, gain)]
    out = torch.nn.functional.rms_norm(leaves[0], gain.shape, leaves[1], eps)

    def call() -> Any:
        dx, dgain = torch.autograd.grad(out, leaves, dy.float(), retain_graph=True)
        return (dx if residual is None else dx + residual).to(x.dtype), dgain.to(gain.dtype)

    return call


def rope(x: Any, cos: Any, sin: Any, interleaved: bool = False) -> Call:
    """In float32, rounded once."""
    import torch

    c, s = cos.float()[:, None], sin.float()[:, None]

    def call() -> Any:
        wide = x.float()
        a, b = (wide[..., ::2], wide[..., 1::2]) if interleaved else wide.chunk(2, -1)
        turned = a * c - b * s, b * c + a * s
        return (torch.stack(turned, -1).flatten(-2) if interleaved else torch.cat(turned, -1)).to(x.dtype)

    return call


def heads_first(x: Any) -> Call:
    return lambda: x.transpose(0, 1).contiguous()


def linear(
    x: Any, w: Any, bias: Any = None, residual: Any = None, scale: float = 1.0, activation: str | None = None
) -> Call:
    """cuBLAS with the residual or the bias in its epilogue, as far as it takes them."""
    import torch

    if activation is None and residual is not None:
        added = residual if bias is None else None
        if added is not None:
            return lambda: torch.addmm(added, x, w, alpha=scale)

    def call() -> Any:
        y = x @ w if bias is None or scale != 1 else torch.addmm(bias, x, w)
        if scale != 1:
            y = y * scale if bias is None else y * scale + bias
        if activation is not None:
            y = getattr(torch.nn.functional, activation)(y)
        return y if residual is None else y + residual

    return call


def linear_transposed(x: Any, w: Any, residual: Any = None) -> Call:
    import torch

    return lambda: x @ w.T if residual is None else torch.addmm(residual, x, w.T)


def rms_norm_linear(x: Any, gain: Any, w: Any, eps: float = 1e-5) -> Call:
    norm = rms_norm(x, gain, eps)
    return lambda: norm() @ w


def gate_backward(g: Any, u: Any, dh: Any) -> Call:
    """autograd of silu(g) * u, forward and backward."""
    import torch

    leaves = [x.detach().requires_grad_() for x in (g, u)]

    def call() -> Any:
        h = torch.nn.functional.silu(leaves[0]) * leaves[1]
        return h.detach(), *torch.autograd.grad(h, leaves, dh)

    return call


def cross_entropy(logits: Any, labels: Any) -> Call:
    """The loss of each row and its log-sum-exp, from logits widened to float32."""
    import torch

    at = labels.long()

    def call() -> Any:
        wide = logits.float()
        loss = torch.nn.functional.cross_entropy(wide, at, reduction="none", ignore_index=-100)
        return loss, wide.logsumexp(1)

    return call


def cross_entropy_backward(logits: Any, labels: Any, lse: Any, dloss: Any) -> Call:
    """softmax - one-hot, eagerly, in float32."""
    import torch

    counts = (labels >= 0).to(torch.float32) * dloss
    at = labels.clamp(min=0).long()[:, None]

    def call() -> Any:
        found = (logits.float() - lse[:, None]).exp_()
        found.scatter_add_(1, at, found.new_full(at.shape, -1.0))
        return found.mul_(counts[:, None]).to(logits.dtype)

    return call


def quantize(x: Any) -> Call:
    import torch

    def call() -> Any:
        wide = x.float()
        scale = (wide.abs().amax(1) / 240).clamp(min=2.0**-100)
        return (wide / scale[:, None]).to(torch.float8_e4m3fn).view(torch.uint8), scale

    return call


def scaled_mm(lhsT: Any, rhs: Any, lhs_scale: Any, rhs_scale: Any) -> Call:
    """cuBLAS with a scale for each row and column; the operands are laid out as it takes them before."""
    import torch

    left = lhsT.T.contiguous().view(torch.float8_e4m3fn)
    right = rhs.T.contiguous().view(torch.float8_e4m3fn).T
    scales = lhs_scale[:, None].contiguous(), rhs_scale[None].contiguous()
    return lambda: torch._scaled_mm(left, right, *scales, out_dtype=torch.bfloat16)


TF32 = ("matmul", "matmul_tiled", "matmul_mk", "matmul_batched")
RIVALS: dict[str, dict[str, Rival]] = {
    "attention": by_sdpa(sdpa),
    "attention_window": {"mask": sdpa_window},
    "attention_mask": {"mask": sdpa_masked},
    "attention_packed": {"mask": sdpa_packed},
    "attention_decode": {"sdpa": sdpa_decode},
    "attention_prefill": {"sdpa": sdpa_decode},
    "attention_backward": by_sdpa(sdpa_backward),
    "rmsnorm": {"rms_norm": rms_norm},
    "rmsnorm_backward": {"autograd": rms_norm_backward},
    "rope": {"eager": rope},
    "heads_first": {"copy": heads_first},
    "linear": {"cublas": linear},
    "linear_transposed": {"cublas": linear_transposed},
    "rmsnorm_linear": {"eager": rms_norm_linear},
    "gate_backward": {"autograd": gate_backward},
    "cross_entropy": {"eager": cross_entropy},
    "cross_entropy_backward": {"eager": cross_entropy_backward},
    "quantize_fp8": {"eager": quantize},
    "matmul_fp8": {"scaled_mm": scaled_mm},
}
