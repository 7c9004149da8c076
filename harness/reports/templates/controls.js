// Wheel, pointer and keys, and what a tooltip says. timeline.js comes before it.

const redraw = () => { if (!frame) frame = requestAnimationFrame(draw); };
let later = 0;
function remember() {  // the stretch and the event that is kept, in the address
  const hash = '#t=' + (view[0] / 1000).toFixed(3) + '-' + (view[1] / 1000).toFixed(3);
  history.replaceState(null, '', hash + (pinned ? '&e=' + data.runs.indexOf(pinned.run) + '.' + pinned.i : ''));
}
function go(from, to) {
  const span = clamp(to - from, 20, total);
  from = clamp((from + to - span) / 2, 0, total - span);
  view = [from, from + span];
  redraw();
  if (pinned) tell(pinned);
  clearTimeout(later);
  later = setTimeout(remember, 250);
}
function keep(found) {
  pinned = found;
  shown = null;
  tell(found);
  remember();
  redraw();
}
const zoom = (factor, centre) => go(centre - (centre - view[0]) * factor, centre + (view[1] - centre) * factor);
const pan = part => { const d = (view[1] - view[0]) * part; go(view[0] + d, view[1] + d); };
const middle = () => (view[0] + view[1]) / 2;
function asked() {
  const hash = /^#t=([\d.]+)-([\d.]+)(?:&e=(\d+)\.(\d+))?$/.exec(location.hash);
  if (!hash || +hash[2] <= +hash[1]) return go(data.view[0], data.view[1]);
  go(hash[1] * 1000, hash[2] * 1000);
  const run = data.runs[hash[3]];
  if (run && hash[4] in run.op) keep({run, i: +hash[4]});
}

function find(px, py) {
  const row = rows.find(r => r.kind === 'lane' && py >= r.y && py < r.y + r.h + 1);
  if (!row || px < GUTTER) return null;
  const slack = (view[1] - view[0]) / width() * 2, t = time(px);
  const k = first(row.lane.start, t) - 1;
  for (const c of [k, k + 1]) {
    if (c >= 0 && c < row.lane.start.length && row.lane.start[c] - slack <= t && t <= row.lane.end[c] + slack) {
      return {run: row.run, i: row.lane.events[c]};
    }
  }
  return null;
}

function tell(found, px, py) {  // beside a point, or below the event
  tip.hidden = !found;
  if (!found) return;
  const {run, i} = found, issue = run.issues[i], row = laneOf[data.runs.indexOf(run)][i];
  const cause = (after, why) => data.waits[why].replace('{}', after < 0 ? '' :
    data.ops[run.op[after]] + ' ' + data.lines[run.line[after]][0]);
  px ??= clamp(x(run.start[i]), GUTTER, GUTTER + width());
  py ??= row.y + row.h;
  const facts = [
    ['', data.lines[run.line[i]][0] + (run.names[i] ? '  ' + run.names[i] : '')],
    ['code', data.lines[run.line[i]][1]],
    ['time', us(run.start[i], 3) + ' to ' + us(run.end[i], 3) + ' us: ' + us(run.end[i] - run.start[i], 3) + ' us'],
    ['result at', us(run.done[i], 3) + ' us'],
    ['waited for', cause(run.after[i], run.why[i])],
    ['issued at', issue ? us(issue[0], 3) + ' us, which waited for ' + cause(issue[1], issue[2]) : ''],
    ['reads', data.details[run.reads[i]]], ['writes', data.details[run.writes[i]]],
    ['', run.critical[i] ? 'on the critical path' : ''],
  ];
  tip.replaceChildren();
  const head = document.createElement('b');
  head.textContent = data.ops[run.op[i]];
  tip.append(head);
  for (const [name, words] of facts) {
    if (!words) continue;
    const p = document.createElement('p');
    if (name && name !== 'code') { const s = document.createElement('span'); s.textContent = name + ' '; p.append(s); }
    const text = document.createElement(name === 'code' ? 'code' : 'span');
    text.className = 'value'; text.textContent = words; p.append(text);
    tip.append(p);
  }
  const box = canvas.getBoundingClientRect(), w = tip.offsetWidth, h = tip.offsetHeight;
  tip.style.left = clamp(box.left + px + 14, 8, innerWidth - w - 8) + scrollX + 'px';
  tip.style.top = (box.top + py + 18 + h > innerHeight ? box.top + py - h - 12 : box.top + py + 18) + scrollY + 'px';
}

let drag = null;
const at = e => { const box = canvas.getBoundingClientRect(); return [e.clientX - box.left, e.clientY - box.top]; };
canvas.addEventListener('wheel', e => {
  e.preventDefault();
  if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) pan((e.deltaX || e.deltaY) / 1200);
  else zoom(Math.exp(clamp(e.deltaY, -120, 120) / 300), clamp(time(at(e)[0]), view[0], view[1]));
}, {passive: false});
canvas.addEventListener('pointerdown', e => {
  drag = {x: e.clientX, view: [...view], moved: false};
  canvas.setPointerCapture(e.pointerId);
});
canvas.addEventListener('pointermove', e => {
  if (drag) {
    const d = (drag.x - e.clientX) / width() * (drag.view[1] - drag.view[0]);
    drag.moved ||= Math.abs(drag.x - e.clientX) > 3;
    if (drag.moved) { tip.hidden = !pinned; go(drag.view[0] + d, drag.view[1] + d); }
    return;
  }
  if (pinned) return;
  const found = find(...at(e));
  if (found?.i !== shown?.i || found?.run !== shown?.run) { shown = found; redraw(); }
  tell(found, ...at(e));
});
canvas.addEventListener('pointerup', e => {
  if (drag && !drag.moved) keep(find(...at(e)));
  drag = null;
});
canvas.addEventListener('pointerleave', () => { if (!pinned && !drag) { shown = null; tip.hidden = true; redraw(); } });
canvas.addEventListener('dblclick', e => zoom(.4, time(at(e)[0])));
canvas.addEventListener('keydown', e => {
  const keys = {ArrowLeft: () => pan(-.2), a: () => pan(-.2), ArrowRight: () => pan(.2), d: () => pan(.2),
    '+': () => zoom(.7, middle()), '=': () => zoom(.7, middle()), w: () => zoom(.7, middle()),
    '-': () => zoom(1 / .7, middle()), s: () => zoom(1 / .7, middle()),
    '0': () => go(0, total), Home: () => go(0, total),
    Escape: () => keep(null)};
  if (keys[e.key] && !e.ctrlKey && !e.metaKey && !e.altKey) { e.preventDefault(); keys[e.key](); }
});
const jump = e => {
  const t = (e.clientX - map.getBoundingClientRect().left - GUTTER) / width() * total, half = (view[1] - view[0]) / 2;
  go(t - half, t + half);
};
map.addEventListener('pointerdown', e => { map.setPointerCapture(e.pointerId); jump(e); });
map.addEventListener('pointermove', e => { if (e.buttons) jump(e); });
document.getElementById('in').addEventListener('click', () => zoom(.5, middle()));
document.getElementById('out').addEventListener('click', () => zoom(2, middle()));
document.getElementById('whole').addEventListener('click', () => go(0, total));
addEventListener('hashchange', asked);
addEventListener('resize', redraw);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { look(); redraw(); });
look();
asked();
