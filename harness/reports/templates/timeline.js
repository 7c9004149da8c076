'use strict';
// The timeline on a canvas, so that 50,000 events stay quick.
//
// Each lane holds its events by start, with sums of busy time and of critical events over them. A frame looks at no more
// than a few events a pixel: one that is at least a pixel wide is drawn as itself, narrower ones as the share of their
// pixel that they fill, which the sums give.

const data = JSON.parse(document.getElementById('data').textContent);
const canvas = document.getElementById('timeline'), map = document.getElementById('map');
const tip = document.getElementById('tip'), stretch = document.getElementById('stretch');
const GUTTER = 98, HEAD = 22, ROW = 28, THIN = 9, MEMORY = 54, GAP = 5;
const total = Math.max(...data.runs.map(run => run.total));
let view = [0, total], colours = {}, shown = null, pinned = null, frame = 0;

// Rows from the top down, with where each begins.
const rows = [];
let height = HEAD;
for (const run of data.runs) {
  if (data.runs.length > 1) { rows.push({kind: 'title', run, y: height + 4, h: 18}); height += 26; }
  for (const lane of run.lanes) {
    const n = lane.events.length;
    lane.start = Float64Array.from(lane.events, i => run.start[i]);
    lane.end = Float64Array.from(lane.events, i => run.end[i]);
    lane.busy = new Float64Array(n + 1); lane.critical = new Int32Array(n + 1);
    for (let k = 0; k < n; k++) {
      lane.busy[k + 1] = lane.busy[k] + lane.end[k] - lane.start[k];
      lane.critical[k + 1] = lane.critical[k] + run.critical[lane.events[k]];
    }
    const h = lane.several ? THIN : ROW;
    if (lane.number === 0) height += GAP;
    rows.push({kind: 'lane', run, lane, y: height, h});
    height += h + (lane.several ? 1 : 0);
  }
  for (const memory of run.memory) {
    height += GAP * 2;
    rows.push({kind: 'memory', run, memory, y: height, h: MEMORY});
    height += MEMORY;
  }
  height += GAP;
}
const laneOf = data.runs.map(run => {
  const of = [];
  for (const row of rows) if (row.kind === 'lane' && row.run === run) for (const i of row.lane.events) of[i] = row;
  return of;
});

const first = (sorted, t) => {  // index of the first element above t
  let low = 0, high = sorted.length;
  while (low < high) { const mid = (low + high) >> 1; if (sorted[mid] > t) high = mid; else low = mid + 1; }
  return low;
};
const width = () => canvas.clientWidth - GUTTER;
const x = t => GUTTER + (t - view[0]) / (view[1] - view[0]) * width();
const time = px => view[0] + (px - GUTTER) / width() * (view[1] - view[0]);
const us = (t, digits = 2) =>
  (t / 1000).toLocaleString('en', {minimumFractionDigits: digits, maximumFractionDigits: digits});
const kib = bytes => +(bytes / 1024).toPrecision(3) + ' KiB';
const clamp = (v, low, high) => Math.min(Math.max(v, low), high);

function look() {
  const style = getComputedStyle(document.documentElement), value = name => style.getPropertyValue(name).trim();
  colours = {ops: [], font: value('--sans')};
  for (const name of ['ground', 'leaf', 'ink', 'soft', 'line', 'faint', 'bad', 'nki', 'numpy']) {
    colours[name] = value('--' + name);
  }
  for (let i = 0; i < 10; i++) colours.ops.push(value('--op' + i));
}
const colour = op => colours.ops[Math.min(op, 9)];

function surface(element, h) {  // a canvas in the screen's own pixels
  const ratio = window.devicePixelRatio || 1, w = element.clientWidth;
  if (element.width !== Math.round(w * ratio) || element.height !== Math.round(h * ratio)) {
    element.width = Math.round(w * ratio); element.height = Math.round(h * ratio);
    element.style.height = h + 'px';
  }
  const g = element.getContext('2d');
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, w, h);
  return g;
}

// One lane between two times, on [left, left + w) and [y, y + h); `words` writes names into what is wide enough.
function drawLane(g, run, lane, from, to, left, w, y, h, words) {
  const n = lane.start.length, scale = w / (to - from), mark = Math.max(1, Math.round(h / 8));
  let k = Math.max(first(lane.start, from) - 1, 0);
  while (k < n && lane.start[k] < to) {
    const a = Math.max((lane.start[k] - from) * scale, 0), b = Math.min((lane.end[k] - from) * scale, w);
    if (b <= 0) { k++; continue; }
    const pixel = Math.floor(a);
    if (b - a >= 1.5) {
      const i = lane.events[k], op = run.op[i];
      g.globalAlpha = 1; g.fillStyle = colour(op);
      g.fillRect(left + a, y, Math.max(b - a - (b - a > 4 ? .75 : 0), 1), h);
      if (run.critical[i]) { g.fillStyle = colours.bad; g.fillRect(left + a, y + h - mark, b - a, mark); }
      if (words && b - a > 34 && h > 14) {
        g.save(); g.beginPath(); g.rect(left + a, y, b - a - 4, h); g.clip();
        g.fillStyle = colours.leaf; g.fillText(data.ops[op], left + a + 5, y + h / 2 + .5); g.restore();
      }
      k++;
      continue;
    }
    const edge = from + (pixel + 1) / scale, next = Math.max(first(lane.start, edge), k + 1);
    const filled = (lane.busy[next] - lane.busy[k]) * scale;
    g.globalAlpha = .25 + .75 * clamp(filled, 0, 1);
    g.fillStyle = colour(run.op[lane.events[(k + next) >> 1]]);
    g.fillRect(left + pixel, y, 1, h);
    if (lane.critical[next] > lane.critical[k]) {
      g.globalAlpha = 1; g.fillStyle = colours.bad; g.fillRect(left + pixel, y + h - mark, 1, mark);
    }
    k = next;
  }
  g.globalAlpha = 1;
}

// Bytes in use, a pixel at a time: filled up to the least within it, with a line from the least to the most.
function drawMemory(g, row) {
  const {memory, y, h} = row, t = memory.times, bytes = memory.bytes, w = Math.ceil(width());
  const peak = bytes.reduce((a, b) => Math.max(a, b), 1), scale = (h - 4) / peak, level = v => Math.round(v * scale);
  const area = new Path2D(), line = new Path2D();
  let k = first(t, view[0]), now = k > 0 ? bytes[k - 1] : 0, before = level(now);
  for (let px = 0; px < w; px++) {
    let least = now, most = now;
    for (const until = time(GUTTER + px + 1); k < t.length && t[k] < until; k++) {
      now = bytes[k]; least = Math.min(least, now); most = Math.max(most, now);
    }
    const low = level(least), high = Math.max(level(most), before);
    area.rect(GUTTER + px, y + h - low, 1, low);
    if (high > 0) line.rect(GUTTER + px, y + h - high, 1, Math.max(high - low, 1));
    before = level(now);
  }
  g.fillStyle = colours.faint; g.fillRect(GUTTER, y, width(), h);
  g.fillStyle = memory.buffer === 'sbuf' ? colours.nki : colours.numpy;
  g.globalAlpha = .3; g.fill(area); g.globalAlpha = 1; g.fill(line);
  label(g, memory.name, y + 9, colours.ink);
  label(g, 'peak ' + kib(peak), y + 25, colours.soft);
  label(g, 'of ' + kib(memory.capacity), y + 40, colours.soft);
}

function label(g, words, y, fill) {
  g.fillStyle = fill; g.textAlign = 'right'; g.fillText(words, GUTTER - 8, y); g.textAlign = 'left';
}

function ticks() {
  const rough = (view[1] - view[0]) / Math.max(width() / 110, 1), power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= rough), out = [];
  for (let t = Math.ceil(view[0] / step) * step; t <= view[1]; t += step) out.push(t);
  return [out, Math.max(0, Math.ceil(3 - Math.log10(step) - 1e-9))];
}

function draw() {
  frame = 0;
  const g = surface(canvas, height), w = width();
  g.font = '12px ' + colours.font; g.textBaseline = 'middle'; g.lineWidth = 1;
  const [marks, digits] = ticks();
  for (const t of marks) {
    g.fillStyle = colours.line; g.fillRect(Math.round(x(t)), HEAD - 6, 1, height);
    g.fillStyle = colours.soft; g.textAlign = 'center';
    g.fillText(us(t, digits), clamp(x(t), GUTTER + 12, GUTTER + w - 20), 8);
    g.textAlign = 'left';
  }
  label(g, 'us', 8, colours.soft);
  for (const row of rows) {
    if (row.kind === 'title') {
      g.fillStyle = colours.ink; g.font = '600 13px ' + colours.font; g.fillText(row.run.label, 2, row.y + 9);
      g.font = '12px ' + colours.font;
      continue;
    }
    if (row.kind === 'memory') { drawMemory(g, row); continue; }
    g.fillStyle = colours.faint; g.fillRect(GUTTER, row.y, w, row.h);
    if (row.lane.number === 0) label(g, row.lane.name, row.y + Math.max(row.h, 12) / 2, colours.ink);
    drawLane(g, row.run, row.lane, view[0], view[1], GUTTER, w, row.y, row.h, true);
  }
  arrows(g);
  drawMap();
  stretch.textContent = us(view[0]) + ' to ' + us(view[1]) + ' us of ' + us(total, 1);
  for (const id of ['out', 'whole']) document.getElementById(id).disabled = view[1] - view[0] >= total;
}

function drawMap() {
  const lanes = rows.filter(row => row.kind === 'lane' && (row.lane.number === 0));
  const h = lanes.length * 5 + 6, g = surface(map, h), w = width();
  lanes.forEach((row, i) => drawLane(g, row.run, row.lane, 0, total, GUTTER, w, 3 + i * 5, 4, false));
  const a = GUTTER + view[0] / total * w, b = GUTTER + view[1] / total * w;
  g.globalAlpha = .55; g.fillStyle = colours.ground;
  g.fillRect(GUTTER, 0, a - GUTTER, h); g.fillRect(b, 0, GUTTER + w - b, h);
  g.globalAlpha = 1; g.strokeStyle = colours.ink; g.strokeRect(a + .5, .5, Math.max(b - a - 1, 2), h - 1);
  g.font = '12px ' + colours.font; g.textBaseline = 'middle'; label(g, 'whole', h / 2, colours.soft);
}

// From what decided its start to the event, and so on towards the launch; paler with distance.
function arrows(g) {
  const target = pinned || shown;
  if (!target) return;
  const {run, i} = target, of = laneOf[data.runs.indexOf(run)];
  const row = of[i];
  g.strokeStyle = colours.ink; g.lineWidth = 2;
  g.strokeRect(x(run.start[i]), row.y, Math.max(x(run.end[i]) - x(run.start[i]), 2), row.h);
  g.lineWidth = 1.5; g.strokeStyle = g.fillStyle = colours.ink;
  const most = pinned ? 12 : 1;
  let left = most;
  for (const [from, to, at] of led(run, i, most, data.issue)) {
    const a = of[from], b = of[to];
    const x1 = x(at), y1 = b.y + b.h / 2, x0 = clamp(Math.min(x(run.end[from]), x1), GUTTER, 1e6), y0 = a.y + a.h / 2;
    const bend = Math.max(Math.abs(x1 - x0) / 2, 14);
    if (x1 < GUTTER) break;
    g.globalAlpha = .35 + .65 * left-- / most;
    g.beginPath(); g.moveTo(x0, y0); g.bezierCurveTo(x0 + bend, y0, x1 - bend, y1, x1 - 5, y1); g.stroke();
    g.beginPath(); g.moveTo(x1, y1); g.lineTo(x1 - 7, y1 - 3.5); g.lineTo(x1 - 7, y1 + 3.5); g.fill();
  }
  g.globalAlpha = 1; g.lineWidth = 1;
}
