"""nki-library's decode attention as a kernel of its own: it is made to be called by a larger one, with room in SBUF."""

import nki
import nki.isa as nisa
import nki.language as nl

LEFT = 16 * 1024  # bytes of a partition's SBUF that its allocator leaves to the compiler, as in the library's tests


@nki.jit
def attention_tkg_entry(q, k_active, v_active, k_prior, v_prior, mask, pos_ids, attention_tkg, manager, logger, config):
    """out[B, H, D, T] of attention_tkg(q, ..) as configured; the library's functions and classes are arguments."""
    room = manager(0, nl.tile_size.total_available_sbuf_size - LEFT, logger("SBM"))
    room.open_scope()
    if config.qk_in_sb:
        loaded = []
        for given in (q, k_active):
            tile = room.alloc_stack(given.shape, dtype=given.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=tile, src=given)
            loaded.append(tile)
        q, k_active = loaded
    shape = (config.bs, config.q_head, config.d_head, config.s_active)
    out = nl.ndarray(shape, dtype=nl.bfloat16, buffer=nl.shared_hbm)
    out, _ = attention_tkg(q, k_active, v_active, k_prior, v_prior, mask, out, config, room, rope_pos_ids=pos_ids)
    room.close_scope()
    return out
