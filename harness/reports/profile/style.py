"""What the profile's page adds to the report's style sheet."""

PROFILE_STYLE = """
:root{--op0:#2748b3;--op1:#9a6b00;--op2:#8a2f6b;--op3:#1c7a5f;--op4:#b3461b;--op5:#2f7fb0;--op6:#5d7414;--op7:#6a4fb0;
  --op8:#7d5a3c;--op9:#6b7380}
@media (prefers-color-scheme:dark){:root{--op0:#8fa8ff;--op1:#e0b04a;--op2:#e58ac4;--op3:#63cfae;--op4:#f29a72;
  --op5:#79c3ee;--op6:#b3cc5c;--op7:#b9a3f5;--op8:#cfa987;--op9:#a9b0bd}}
body{max-width:100rem;padding-top:1rem}
.mast{margin-bottom:.9rem}.mast h1{font-size:1.35rem;color:var(--ink)}
.mast>span{border:1px solid var(--line);border-radius:1rem;padding:0 .7rem;font:italic .95rem var(--serif)}
main>section{padding-top:1.1rem}
section>h2,.bar h2{font-size:1.2rem;margin:0}
.figures{list-style:none;margin:0;padding:0;display:grid;gap:1px;background:var(--leaf);border:1px solid var(--line);
  grid-template-columns:repeat(auto-fit,minmax(12rem,1fr))}
.figures li{outline:1px solid var(--line);padding:.55rem .9rem}
.figures span{color:var(--soft);font-size:.8125rem;margin-right:.6rem}
.figures b{font:600 1.25rem/1.2 var(--serif)}
.figures small{display:block;color:var(--soft);font-size:.78rem;line-height:1.35}
.bar{display:flex;flex-wrap:wrap;align-items:baseline;gap:.3rem .6rem;margin-bottom:.4rem}
.bar p{margin:0 auto 0 .4rem;color:var(--soft);font-size:.9rem}
button{font:inherit;font-size:.85rem;color:var(--ink);background:var(--leaf);border:1px solid var(--line);
  border-radius:.25rem;padding:.1rem .7rem;cursor:pointer}
button:disabled{color:var(--soft);cursor:default}
button:focus-visible,canvas:focus-visible{outline:2px solid var(--nki);outline-offset:2px}
canvas{display:block;width:100%;background:var(--leaf);border:1px solid var(--line);touch-action:none}
#map{border-bottom:0;cursor:ew-resize}#timeline{cursor:grab}#timeline:active{cursor:grabbing}
.ops{list-style:none;display:flex;flex-wrap:wrap;gap:.1rem 1.1rem;margin:.5rem 0 0;padding:0;font-size:.85rem}
.ops i{display:inline-block;width:.75rem;height:.75rem;margin-right:.4rem;vertical-align:-.05rem}
.ops .critical{height:.2rem;vertical-align:.25rem;background:var(--bad)}
.hint{color:var(--soft);font-size:.8125rem;max-width:none;margin:.3rem 0 0}
kbd{font:inherit;border:1px solid var(--line);border-radius:.2rem;padding:0 .3rem;background:var(--leaf)}
#tip{position:absolute;z-index:3;max-width:34rem;pointer-events:none;background:var(--leaf);
  border:1px solid var(--soft);border-radius:.3rem;padding:.5rem .75rem;font-size:.8125rem;box-shadow:0 2px 10px #0003}
#tip p{margin:.1rem 0;max-width:none;color:var(--soft);overflow-wrap:anywhere}#tip .value{color:var(--ink)}
.reasons{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(21rem,100%),1fr));
  gap:1rem 2.5rem;align-items:start}
.reasons h3{margin:.6rem 0 .3rem;font-size:1.05rem}
.reasons th,.reasons td{padding:.2rem .9rem .2rem 0;font-size:.875rem}
.fit{width:fit-content;max-width:100%}.compare{width:auto}.compare th,.compare td{padding:.15rem 1rem;font-size:.875rem}
.compare tr+tr{border-top:1px solid var(--line)}
.reasons td span{margin-left:.6rem;color:var(--soft);font-size:.8125rem}.reasons code{display:block;font-size:.78rem}
.reasons small{display:block;color:var(--soft)}.reasons td:last-child{width:100%}
.reasons tr+tr{border-top:1px solid var(--line)}
.reasons ul{margin:0;padding-left:1.1rem}
.reasons .bar{display:table-cell;width:100%}.reasons .bar i{background:var(--nki)}
footer{margin-top:2rem}
"""
