"""The report's style sheet. Three pigments stand for the panels, ochre, lapis and madder;
green and red are verdicts."""

MARK = (
    '<svg viewBox="0 0 44 30" aria-hidden="true"><path class="l" d="M2 28V14Q2 8 11 6V28Z"/>'
    '<path class="c" d="M13 28V12a9 10 0 0 1 18 0V28Z"/><path class="r" d="M42 28V14Q42 8 33 6V28Z"/></svg>'
)

STYLE = """
:root{
  --ground:#f6f7f9;--leaf:#fff;--ink:#1a1d24;--soft:#565d6b;--line:#dcdfe6;--faint:#eceef2;
  --numpy:#9a6b00;--nki:#2748b3;--triton:#8a2f6b;--torch:#4d5a66;--other:#4d5a66;
  --good:#136c3a;--good-bg:#e2f3e8;--bad:#b3161b;--bad-bg:#fde7e6;--warn:#8a5200;--warn-bg:#fdf0d8;--mute-bg:#eceef2;
  --serif:"Iowan Old Style","Palatino Linotype",Palatino,"URW Palladio L",P052,Georgia,serif;
  --sans:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
  --mono:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;
}
@media (prefers-color-scheme:dark){:root{
  --ground:#12141a;--leaf:#1a1d25;--ink:#e8eaf0;--soft:#a0a7b6;--line:#323743;--faint:#242833;
  --numpy:#e0b04a;--nki:#8fa8ff;--triton:#e58ac4;--torch:#a9b6c2;--other:#a9b6c2;
  --good:#6fd79a;--good-bg:#16321f;--bad:#ff8a85;--bad-bg:#3d1a1b;--warn:#f2bd63;--warn-bg:#38290f;--mute-bg:#272b36;
}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:78rem;padding:1.5rem clamp(1rem,4vw,3rem) 4rem;background:var(--ground);color:var(--ink);
  font:1rem/1.5 var(--sans);font-variant-numeric:tabular-nums}
h1,h2,h3{font-family:var(--serif);font-weight:600;line-height:1.15;text-wrap:balance;margin:0}
a{color:inherit;text-decoration-thickness:1px;text-underline-offset:.2em}
a:focus-visible,.scroll:focus-visible{outline:2px solid var(--nki);outline-offset:3px}
.skip{position:absolute;left:-99rem}
.skip:focus{left:1rem;top:1rem;background:var(--leaf);padding:.5rem 1rem;z-index:2}
code{font-family:var(--mono);font-size:.92em}

.mast{display:flex;flex-wrap:wrap;align-items:baseline;gap:.25rem 1.25rem;margin-bottom:1.75rem;color:var(--soft)}
.mast p{margin:0}.mast b{color:var(--ink);font-weight:600}.mast>span{margin-left:auto}
.name{display:flex;align-items:center;gap:.6rem;font:600 1.25rem/1 var(--serif);color:var(--ink)}
.name svg{width:2.2rem;height:1.5rem}.name .l{fill:var(--nki)}.name .c{fill:var(--numpy)}.name .r{fill:var(--triton)}

.altar{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1.45fr) minmax(0,1fr);gap:.6rem}
.panel{background:var(--leaf);border:1px solid var(--line);border-bottom:.35rem solid var(--hue);padding:1.5rem}
.wing{margin-top:3.5rem;padding-top:4.25rem}
.wing.nki{--hue:var(--nki);border-radius:13rem 0 0 0/9rem 0 0 0}
.wing.triton{--hue:var(--triton);border-radius:0 13rem 0 0/0 9rem 0 0}
.wing.nki>h2,.wing.nki>p{padding-left:2rem}
.wing h2{font-size:1.6rem;color:var(--hue)}.wing>p{margin:.1rem 0 1.2rem;color:var(--soft)}
.wing ul{list-style:none;margin:0;padding:0;display:grid;gap:.9rem}
.wing li{border-top:1px solid var(--line);padding-top:.7rem;overflow-wrap:anywhere}
.ratio{display:block;font-size:1.1rem;font-weight:600}.ratio.passed{color:var(--good)}.ratio.failed{color:var(--bad)}
.why{display:block;color:var(--soft);font-size:.875rem}
.centre{--hue:var(--numpy);min-height:27rem;border-radius:50% 50% 0 0/9rem 9rem 0 0;text-align:center;
  padding:5rem clamp(1.25rem,3vw,2.75rem) 1.75rem;display:flex;flex-direction:column;justify-content:flex-end}
.centre h1{font-size:clamp(2rem,4.4vw,3.2rem);letter-spacing:-.015em;margin:.5rem 0 .8rem}
.centre.good h1{color:var(--good)}.centre.bad h1{color:var(--bad)}
.centre>p{margin:0 auto;max-width:25rem;color:var(--soft)}
.eyebrow{color:var(--numpy)!important;font:600 1rem var(--serif)}
.tally{list-style:none;margin:1.6rem 0 0;padding:1rem 0 0;border-top:1px solid var(--line);display:grid;
  grid-template-columns:repeat(3,1fr);gap:.6rem .5rem;font-size:.875rem;color:var(--soft)}
.tally b{display:block;font:600 1.35rem/1.1 var(--serif);color:var(--ink)}
.tally .passed:not(.none) b{color:var(--good)}
.tally :is(.failed,.error,.timeout):not(.none) b{color:var(--bad)}.tally .skipped:not(.none) b{color:var(--warn)}
.tally .none b{color:var(--soft);font-weight:400}
.predella{grid-column:1/-1;background:var(--leaf);border:1px solid var(--line);padding:.9rem 1.5rem;font-size:.9rem;
  color:var(--soft)}
.predella p{margin:0;display:flex;flex-wrap:wrap;justify-content:center;gap:.15rem 1.75rem}

nav{margin:2rem 0 0;border-bottom:1px solid var(--line)}
nav ol{list-style:none;margin:0;padding:0 0 .8rem;display:flex;flex-wrap:wrap;gap:.4rem 1.5rem;font-size:.95rem}
nav a{text-decoration:none;color:var(--soft)}nav a:hover{color:var(--ink);text-decoration:underline}
main>section{padding-top:3.25rem}
section>h2{font-size:1.9rem;margin-bottom:.75rem}
main h3{font-size:1.2rem;margin:2rem 0 .6rem}
main p{max-width:68ch;margin:.4rem 0 .8rem}

.status{display:inline-block;font:600 .8125rem/1.4 var(--sans);padding:.05rem .5rem;border-radius:.25rem;
  background:var(--mute-bg);color:var(--soft)}
.status.passed{background:var(--good-bg);color:var(--good)}
.status.failed,.status.error,.status.timeout{background:var(--bad-bg);color:var(--bad)}
.status.skipped{background:var(--warn-bg);color:var(--warn)}
.kind{font:italic .95rem var(--serif);color:var(--soft)}

.card{background:var(--leaf);border:1px solid var(--line);border-left:.35rem solid var(--bad);padding:1rem 1.25rem;
  margin:.75rem 0}
.card h3{margin:0 0 .4rem;font-size:1.1rem}.card h3 span:not(.status){font:400 .95rem var(--sans);color:var(--soft)}
.card summary{color:var(--soft);cursor:pointer}
.card p{margin:.3rem 0}.card ul{margin:.3rem 0;padding-left:1.2rem;color:var(--soft);font-size:.95rem}
.histogram{width:auto;min-width:min(32rem,100%);margin:.3rem 0}.histogram caption{padding:.2rem 0}
.histogram th,.histogram td{padding:.1rem .6rem .1rem 0;color:var(--soft)}.histogram .bar i{background:var(--bad)}
figure{margin:.6rem 0}figcaption{color:var(--soft);font-size:.875rem}figure pre{line-height:1.15;margin:.2rem 0}
pre{background:var(--faint);padding:.8rem 1rem;overflow-x:auto;margin:.7rem 0;border-radius:.25rem;font-size:.9rem}

.scroll{overflow-x:auto;background:var(--leaf);border:1px solid var(--line);margin:.6rem 0 1.25rem}
table{border-collapse:collapse;width:100%;font-size:.9rem}
caption{text-align:left;padding:.7rem 1rem;color:var(--soft);font-size:.875rem}
caption b{color:var(--ink);font:600 1.1rem var(--serif);margin-right:.75rem}
th,td{text-align:left;padding:.4rem 1rem;vertical-align:baseline;font-weight:400}
thead th{border-bottom:1px solid var(--ink);color:var(--soft);font-size:.8125rem;vertical-align:bottom}
.num{text-align:right;white-space:nowrap}
.matrix thead b{display:block;color:var(--ink);font-size:.9rem}.matrix thead span{font:italic .875rem var(--serif)}
.matrix tbody,.facts tr+tr,.absent tr+tr{border-top:1px solid var(--line)}
.matrix tbody:first-of-type{border-top:0}
.matrix th[scope=rowgroup]{font-weight:600;width:19rem;overflow-wrap:anywhere}
.matrix th[scope=row]{color:var(--soft);white-space:nowrap;width:6rem}
.matrix td{position:relative;white-space:nowrap;min-width:9.5rem;padding-bottom:.6rem}
.matrix td i{position:absolute;left:1rem;bottom:.2rem;height:2px;max-width:calc(100% - 2rem);background:var(--good);
  opacity:.7}
.matrix td.failed i{background:var(--bad)}
.share{margin-left:.6rem;color:var(--soft)}.void{color:var(--soft)}
thead .nki b{color:var(--nki)}thead .triton b{color:var(--triton)}thead .numpy b{color:var(--numpy)}
thead .torch b{color:var(--torch)}
.absent th,.facts th{white-space:nowrap;font-weight:600}
.facts td,.absent td:last-child{width:100%;overflow-wrap:anywhere}

.pairs{width:auto;min-width:60%}.pairs :is(th,td){white-space:nowrap}.pairs th{font-weight:600}
.pairs tr+tr{border-top:1px solid var(--line)}

.key{list-style:none;display:flex;gap:1.5rem;padding:0;margin:.5rem 0;color:var(--soft);font-size:.9rem}
.key .dot{position:static;display:inline-block;margin:0 .5rem 0 0;background:var(--soft)}
.lanes{background:var(--leaf);border:1px solid var(--line);padding:1rem 1.25rem 1.9rem;margin:.75rem 0;
  position:relative}
.lanes h3{margin:0 0 .4rem}
.lane{--hue:var(--other);display:grid;grid-template-columns:19rem 1fr;align-items:center;gap:1rem}
.lane.nki{--hue:var(--nki)}.lane.triton{--hue:var(--triton)}.lane.torch{--hue:var(--torch)}
.lane.numpy{--hue:var(--numpy)}
.lane+.lane{margin-top:.35rem}.lane p{margin:.25rem 0;line-height:1.3}
.lane p span{display:block;color:var(--soft);font-size:.85rem}.lane b{color:var(--hue)}
.track{position:relative;height:2.9rem;border-left:1px solid var(--line);margin-right:1rem;
  background:linear-gradient(var(--line),var(--line)) 0 50%/100% 1px no-repeat,
  linear-gradient(90deg,transparent calc(45.45% - .5px),var(--line) 0,var(--line) calc(45.45% + .5px),transparent 0),
  linear-gradient(90deg,transparent calc(90.91% - 1px),var(--bad) 0,var(--bad) calc(90.91% + 1px),transparent 0)}
.dot{position:absolute;width:.62rem;height:.62rem;margin:-.31rem 0 0 -.31rem;background:var(--hue);opacity:.75}
.dot.circle{border-radius:50%;top:22%}.dot.square{top:50%;width:.55rem;height:.55rem}
.dot.diamond{transform:rotate(45deg);width:.5rem;height:.5rem;top:79%}
.dot.failed{background:var(--bad);opacity:1}
.axis{position:absolute;left:21.25rem;right:2.25rem;bottom:.5rem;height:1rem;font-size:.8125rem;color:var(--soft)}
.axis span{position:absolute;transform:translateX(-50%);white-space:nowrap}

.evidence{margin-top:2rem}
.evidence h3{display:flex;flex-wrap:wrap;align-items:baseline;gap:.2rem .8rem;margin-bottom:.4rem;font-size:1.35rem}
.evidence h3 .kind{order:2;border:1px solid var(--line);border-radius:1rem;padding:0 .7rem}
.evidence small{order:3;font:400 .9rem var(--sans);color:var(--soft)}
.caveat{color:var(--warn);font-weight:600}
.speed th[scope=rowgroup]{font-weight:600;max-width:20rem;overflow-wrap:anywhere}
.speed th span{font-weight:400;color:var(--soft);white-space:nowrap}
.speed thead th:first-child{width:18rem}.speed thead th:nth-child(2){width:9rem}
.speed tr.first th,.speed tr.first td{border-top:1px solid var(--line)}.speed tbody tr:first-child>*{border-top:0}
.speed th[scope=row]{white-space:nowrap}.speed th.nki{color:var(--nki)}.speed th.triton{color:var(--triton)}
.speed th.torch{color:var(--torch)}.speed th.numpy{color:var(--numpy)}
.speed td span{display:block;color:var(--soft);font-size:.8rem}
td.bar,th.bar{width:38%;min-width:9rem}
td.bar i{display:block;height:.85rem;background:var(--other)}
.bar .nki{background:var(--nki)}.bar .triton{background:var(--triton)}.bar .torch{background:var(--torch)}
.bar .numpy{background:var(--numpy)}
td.bar i.predicted{--c:var(--nki);background:repeating-linear-gradient(115deg,var(--c) 0 3px,transparent 3px 6px);
  border:1px solid var(--c)}
td.bar i.interpreted{opacity:.45}

.legend{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(20rem,100%),1fr));gap:0 3rem}
.legend h3:first-child{margin-top:.5rem}
dl{margin:.5rem 0}dt{font-weight:600;margin-top:.7rem}dd{margin:.1rem 0 0;color:var(--soft)}
.states{display:grid;grid-template-columns:auto 1fr;gap:.5rem 1rem}.states dt,.states dd{margin:0}
footer{margin-top:4rem;padding-top:1rem;border-top:1px solid var(--line);color:var(--soft);font-size:.875rem}

@media (max-width:58rem){
  .altar{grid-template-columns:1fr 1fr}
.centre{grid-column:1/-1;grid-row:1;min-height:0;border-radius:50% 50% 0 0/6rem 6rem 0 0}
  .wing{margin-top:0;padding-top:1.5rem}.wing.nki,.wing.triton{border-radius:0}
.wing.nki>h2,.wing.nki>p{padding-left:0}
  .lane{grid-template-columns:1fr;gap:0}.lane+.lane{margin-top:.6rem}.axis{left:1.25rem}
}
@media (max-width:36rem){
  .altar{grid-template-columns:1fr}.centre{padding-top:3.5rem}.mast>span{margin-left:0}
  th,td{padding-left:.7rem;padding-right:.7rem}.matrix td i{left:.7rem}
  .predella p{justify-content:flex-start}section>h2{font-size:1.6rem}
}
@media print{
  body{max-width:none;padding:0;background:#fff;font-size:9.5pt}nav,.skip{display:none}
  *{-webkit-print-color-adjust:exact;print-color-adjust:exact}
  .card,.lanes,tr,.panel,pre{break-inside:avoid}h2,h3{break-after:avoid}.scroll{overflow:visible}
}
"""
