'use strict';
// What led to an event: [what decided it, what it decided, when], one after the other towards the launch.
//
// Where an engine waited until it had issued a transfer, what that transfer then waited for does not matter.
function* led(run, i, most, issue) {
  for (let issued = false; most > 0; most--) {
    const [at, after, why] = issued && run.issues[i] || [run.start[i], run.after[i], run.why[i]];
    if (after < 0) return;
    yield [after, i, at];
    issued = why === issue;
    i = after;
  }
}
