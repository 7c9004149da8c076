/* The clock of the timing model, compiled: Clock.run (triptych.simulator.timing.clock), after whose text it is written, on
 * arrays that triptych.simulator.timing.arrays makes and reads. Doubles are added in the order in which the Python adds them.
 *
 * Events stand in the order that is given. Who waits for an event, which tensors it touches and which leave with it are lists
 * of rows, linked by numbers, of which NONE ends one.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <float.h>
#include <stdlib.h>

#if FLT_EVAL_METHOD != 0
#error "sums would be rounded otherwise than Python's"
#endif

enum { LEAVE, ISSUED, READY, WAKE };                    /* what happens, in the order in which it does at one moment */
enum { DATA, START, ENGINE, ISSUE, PORT, RINGS, ROOM }; /* why an event began: arrays.WHYS */
enum { DONE, TOO_LATE, STUCK, NO_MEMORY };              /* how a run ends: arrays.run */
enum { NONE = -1, CELLS = 16, PORTS = 3, OTHERS = 2 };

/* Rows of the arrays, as the dtypes of timing.arrays have them. */
typedef struct { double busy, latency, issue, lead, least; int queue, first, behind, port, cells, multiplies, elsewhere[OTHERS]; } Ask;
typedef struct { double rest, wake; int core, issuer, moves, adds, keeps_order, next, first_issued, last_issued, turn, others[OTHERS], is_touched; } Queue;
typedef struct { double free; int last; } Issuer;
typedef struct { double ends, used, seen, port_free[PORTS], cells[CELLS]; int port_user[PORTS], last_moved, turn, is_warm, has_begun; } Core;
typedef struct { double end, size; int memory, uses, until, touches, next; } Tenant; /* next: in line, and then of those that leave */
typedef struct { double free; int held, first, last; } Memory;
typedef struct { int producer, event, why, next; } Wait;
typedef struct { int tenant, event, next, next_of_tenant; } Touch;
typedef struct {
    double ready_at, visible_at, start, busy, end, issued_at;
    int ask, queue, missing, waits, touches, leaving, next_issued, next_in_queue, after, why, issued_after, issued_why, has_run;
} Event;
typedef struct { double launch, between_tiles, limit, window, cold, hot, warms, cools; } Times;

typedef struct { double at; int what, event; } Entry;
typedef struct { Entry *entries; int count, size; } Heap;
typedef struct {
    Ask *asks; Queue *queues; Issuer *issuers; Core *cores; Tenant *tenants; Memory *memories; Wait *waits; Touch *touches; Event *events;
    Times *times;
    double *rings;
    int count, lines, ring_count, lends, outcome;
    Heap agenda, *ready; /* of each queue: what can be issued */
} Clock;

static int is_before(const Entry *a, const Entry *b)
{
    return a->at != b->at ? a->at < b->at : a->what != b->what ? a->what < b->what : a->event < b->event;
}

static void push(Clock *c, Heap *heap, double at, int what, int event)
{
    if (heap->count == heap->size) {
        int size = 2 * heap->size + 64;
        Entry *more = PyMem_Realloc(heap->entries, size * sizeof(Entry));
        if (!more) {
            c->outcome = NO_MEMORY;
            return;
        }
        heap->entries = more, heap->size = size;
    }
    Entry new = {at, what, event};
    int i = heap->count++;
    for (; i && is_before(&new, &heap->entries[(i - 1) / 2]); i = (i - 1) / 2)
        heap->entries[i] = heap->entries[(i - 1) / 2];
    heap->entries[i] = new;
}

/* Take out the entry at `i`: the first, at 0, or any of a heap that is sorted, of which the last comes after all others. */
static Entry take(Heap *heap, int i)
{
    Entry taken = heap->entries[i], last = heap->entries[--heap->count];
    for (int child; (child = 2 * i + 1) < heap->count; i = child) {
        child += child + 1 < heap->count && is_before(&heap->entries[child + 1], &heap->entries[child]);
        if (!is_before(&heap->entries[child], &last))
            break;
        heap->entries[i] = heap->entries[child];
    }
    heap->entries[i] = last;
    return taken;
}

static void wake(Clock *c, Queue *queue, double at, int event)
{
    if (queue->wake != at)
        push(c, &c->agenda, queue->wake = at, WAKE, event);
}

/* Throttle._pass */
static void pass(const Times *times, Core *core, double until, int in_use)
{
    for (; core->ends <= until; core->seen = core->ends, core->ends += times->window) {
        double share = (core->used + in_use * (core->ends - core->seen)) / times->window;
        core->is_warm = core->is_warm ? share > times->cools : share >= times->warms;
        core->used = 0.0;
    }
    if (until > core->seen) {
        core->used += in_use * (until - core->seen);
        core->seen = until;
    }
}

/* Throttle.time */
static double throttled(const Times *times, Core *core, double now, double busy)
{
    if (!times->window)
        return busy;
    if (!core->has_begun)
        core->has_begun = 1, core->ends = now + times->window / 2, core->seen = now;
    pass(times, core, now, 0);
    busy *= core->is_warm ? times->hot : times->cold;
    pass(times, core, now + busy, 1);
    return busy;
}

/* An event need not wait any longer for one thing, which was there `at`, because of `after`. */
static void let_go(Clock *c, int index, double at, int after, int why)
{
    Event *event = &c->events[index];
    if (at > event->ready_at)
        event->ready_at = at, event->after = after, event->why = why;
    if (--event->missing == 0)
        push(c, &c->agenda, event->ready_at, READY, index);
}

static void admit(Clock *c, Memory *memory, double now, int left)
{
    while (memory->first != NONE) {
        Tenant *tenant = &c->tenants[memory->first];
        if (tenant->size > memory->free && memory->held)
            return;
        memory->free -= tenant->size;
        memory->held++;
        memory->first = tenant->next;
        for (int at = tenant->touches; at != NONE; at = c->touches[at].next_of_tenant)
            let_go(c, c->touches[at].event, now, left, ROOM);
    }
}

static void leave(Clock *c, int index, double now)
{
    int at = c->events[index].leaving;
    c->events[index].leaving = NONE;
    for (; at != NONE; at = c->tenants[at].next) {
        Memory *memory = &c->memories[c->tenants[at].memory];
        memory->free += c->tenants[at].size;
        memory->held--;
        admit(c, memory, now, index);
    }
}

static double start(Clock *c, int index, double now, double busy)
{
    Event *event = &c->events[index];
    double end = now + busy + c->asks[event->ask].latency;
    event->start = now, event->busy = busy, event->end = end, event->has_run = 1;
    for (int at = event->touches; at != NONE; at = c->touches[at].next) {
        Tenant *tenant = &c->tenants[c->touches[at].tenant];
        if (end > tenant->end || (end == tenant->end && index > tenant->until))
            tenant->end = end, tenant->until = index;
        if (--tenant->uses == 0) {
            tenant->next = c->events[tenant->until].leaving;
            c->events[tenant->until].leaving = c->touches[at].tenant;
            push(c, &c->agenda, tenant->end, LEAVE, tenant->until);
        }
    }
    if (c->lends)
        push(c, &c->agenda, now + busy, WAKE, index);
    return end;
}

static void execute(Clock *c, int index, double now)
{
    const Ask *ask = &c->asks[c->events[index].ask];
    int number = c->events[index].queue;
    const Queue *queue = &c->queues[number];
    Core *core = &c->cores[queue->core];
    double busy = ask->multiplies ? throttled(c->times, core, now, ask->busy) : ask->busy, free = now + busy;
    int is_tiled = ask->cells && c->times->between_tiles < busy;
    c->issuers[queue->issuer].free = is_tiled ? now + c->times->between_tiles : free;
    for (int cell = 0; ask->cells >> cell; cell++)
        if (ask->cells >> cell & 1)
            core->cells[cell] = free;
    if (ask->port)
        core->port_free[ask->port] = free, core->port_user[ask->port] = index;
    double end = start(c, index, now, busy);
    for (int at = c->events[index].waits; at != NONE; at = c->waits[at].next) {
        const Wait *wait = &c->waits[at];
        Event *event = &c->events[wait->event];
        int is_next = event->queue == number && (queue->adds || wait->why != DATA);
        if (is_next && c->asks[event->ask].elsewhere[0] != NONE) {
            event->visible_at = end > event->visible_at ? end : event->visible_at;
            push(c, &c->agenda, end, WAKE, index);
        }
        let_go(c, wait->event, is_next ? free : end, index, wait->why);
    }
}

static void move(Clock *c, int on, double now)
{
    Core *core = &c->cores[on];
    for (;;) {
        Queue *queue = NULL; /* the next in turn */
        for (Queue *each = c->queues; each < c->queues + c->lines; each++)
            if (each->core == on && each->first_issued != NONE && (!queue || each->turn < queue->turn))
                queue = each;
        if (!queue)
            return;
        int index = queue->first_issued;
        Event *event = &c->events[index];
        const Ask *ask = &c->asks[event->ask];
        double *rings = c->rings + on * c->ring_count, free = rings[ask->first], last = free;
        for (int ring = ask->first; ring < ask->behind; ring++) {
            free = rings[ring] < free ? rings[ring] : free;
            last = rings[ring] > last ? rings[ring] : last;
        }
        if (free > now) {
            wake(c, queue, free, index);
            return;
        }
        queue->first_issued = event->next_issued;
        queue->turn = core->turn++;
        if (last > now || free == now)
            event->after = core->last_moved, event->why = RINGS;
        core->last_moved = index;
        for (int ring = ask->first; ring < ask->behind; ring++)
            rings[ring] = (rings[ring] > now ? rings[ring] : now) + ask->busy;
        double end = start(c, index, last > now ? last : now, ask->busy);
        for (int at = event->waits; at != NONE; at = c->waits[at].next)
            let_go(c, c->waits[at].event, end, index, c->waits[at].why);
    }
}

static void dispatch(Clock *c, int number, double now)
{
    Queue *queue = &c->queues[number];
    Issuer *issuer = &c->issuers[queue->issuer];
    Core *core = &c->cores[queue->core];
    while (c->ready[number].count && c->outcome == DONE) {
        int index = c->ready[number].entries[0].event, blocker = issuer->last;
        int why = blocker != NONE && c->queues[c->events[blocker].queue].moves ? ISSUE : ENGINE;
        Event *event = &c->events[index];
        const Ask *ask = &c->asks[event->ask];
        double taken = issuer->free;
        if (taken <= now) {
            if (queue->keeps_order && index != queue->next)
                return;
            taken = core->port_free[ask->port]; /* 0 of what needs none */
            if (taken == now)
                blocker = core->port_user[ask->port], why = PORT;
            for (int cell = 0; ask->cells >> cell && core->port_free[ask->port] <= now; cell++)
                if (ask->cells >> cell & 1 && core->cells[cell] > taken)
                    taken = core->cells[cell];
        }
        if (taken > now) {
            wake(c, queue, taken, index);
            return;
        }
        take(&c->ready[number], 0);
        if (queue->keeps_order) {
            if (now + queue->rest > c->times->limit) {
                c->outcome = TOO_LATE;
                return;
            }
            queue->rest -= ask->least;
            queue->next = event->next_in_queue;
        }
        if (now > event->ready_at && blocker != NONE)
            event->after = blocker, event->why = why;
        issuer->last = index;
        if (queue->moves) {
            event->issued_at = now, event->issued_after = event->after, event->issued_why = event->why;
            issuer->free = now + ask->issue;
            push(c, &c->agenda, now + ask->lead, ISSUED, index);
            if (c->lends)
                push(c, &c->agenda, issuer->free, WAKE, index);
        }
        else
            execute(c, index, now);
    }
}

static int by_place(const void *a, const void *b)
{
    return ((const Entry *)a)->event - ((const Entry *)b)->event;
}

static void spread(Clock *c, int number, double now)
{
    Queue *lender = &c->queues[number];
    Heap *ready = &c->ready[number];
    for (int i = 0; i < OTHERS && lender->others[i] != NONE; i++) {
        int other = lender->others[i];
        Issuer *issuer = &c->issuers[c->queues[other].issuer];
        if (issuer->free > now || c->ready[other].count)
            continue;
        qsort(ready->entries, ready->count, sizeof(Entry), by_place); /* in order it is a heap, too */
        for (int at = 0; at < ready->count; at++) {
            Event *event = &c->events[ready->entries[at].event];
            const Ask *ask = &c->asks[event->ask], *mine = NULL;
            for (int j = 0; j < OTHERS && ask->elsewhere[j] != NONE; j++)
                if (c->asks[ask->elsewhere[j]].queue == other)
                    mine = &c->asks[ask->elsewhere[j]];
            if (!mine || event->visible_at > now || c->cores[lender->core].port_free[mine->port] > now)
                continue;
            if (now + mine->busy + mine->latency > c->issuers[lender->issuer].free + ask->busy + ask->latency)
                continue;
            issuer->last = take(ready, at).event;
            event->ask = (int)(mine - c->asks), event->queue = other;
            execute(c, issuer->last, now);
            break;
        }
    }
}

/* All that happens at the next moment. */
static void next_moment(Clock *c)
{
    double now = c->agenda.entries[0].at;
    while (c->agenda.count && c->agenda.entries[0].at == now) {
        Entry entry = take(&c->agenda, 0);
        Queue *queue = &c->queues[c->events[entry.event].queue];
        if (entry.what == LEAVE) {
            leave(c, entry.event, now);
            continue;
        }
        if (entry.what == READY)
            push(c, &c->ready[queue - c->queues], 0.0, 0, entry.event);
        if (entry.what == ISSUED) {
            *(queue->first_issued == NONE ? &queue->first_issued : &c->events[queue->last_issued].next_issued) = entry.event;
            queue->last_issued = entry.event;
        }
        queue->is_touched = 1;
    }
    for (int i = 0; i < c->lines && c->outcome == DONE; i++) {
        if (!c->queues[i].is_touched)
            continue;
        c->queues[i].is_touched = 0;
        if (c->queues[i].first_issued != NONE)
            move(c, c->queues[i].core, now);
        dispatch(c, i, now);
    }
    for (int i = 0; c->lends && i < c->lines && c->outcome == DONE; i++)
        if (c->queues[i].others[0] != NONE && c->ready[i].count && c->issuers[c->queues[i].issuer].free > now)
            spread(c, i, now);
}

/* Link rows to those that they are about, and put each tensor in line for room. */
static void set_up(Clock *c, int waits, int touches, int in_order)
{
    for (int i = 0; i < waits; i++) {
        Wait *wait = &c->waits[i];
        wait->next = c->events[wait->producer].waits, c->events[wait->producer].waits = i;
        c->events[wait->event].missing++;
    }
    for (int i = 0; i < touches; i++) {
        Touch *touch = &c->touches[i];
        Tenant *tenant = &c->tenants[touch->tenant];
        Memory *memory = &c->memories[tenant->memory];
        if (!tenant->uses++) {
            *(memory->first == NONE ? &memory->first : &c->tenants[memory->last].next) = touch->tenant;
            memory->last = touch->tenant;
        }
        touch->next = c->events[touch->event].touches, c->events[touch->event].touches = i;
        touch->next_of_tenant = tenant->touches, tenant->touches = i;
        c->events[touch->event].missing++;
    }
    for (int i = c->count - 1; i >= 0; i--) {
        Event *event = &c->events[i];
        Queue *queue = &c->queues[event->queue = c->asks[event->ask].queue];
        c->lends |= queue->others[0] != NONE;
        if (in_order || queue->moves) {
            event->next_in_queue = queue->next, queue->next = i;
            queue->rest += c->asks[event->ask].least, queue->keeps_order = 1;
        }
        if (!event->missing)
            push(c, &c->agenda, c->times->launch, READY, i);
    }
}

/* run(asks, queues, .., times, rings, in_order): let time pass; how it ended. */
static PyObject *run(PyObject *Py_UNUSED(module), PyObject *args)
{
    enum { ASKS, QUEUES, ISSUERS, CORES, TENANTS, MEMORIES, WAITS, TOUCHES, EVENTS, TIMES, FREE, ARRAYS };
    static const Py_ssize_t sizes[] = {sizeof(Ask), sizeof(Queue), sizeof(Issuer), sizeof(Core), sizeof(Tenant), sizeof(Memory),
                                       sizeof(Wait), sizeof(Touch), sizeof(Event), sizeof(Times), sizeof(double)};
    Py_buffer b[ARRAYS];
    int in_order, rows[ARRAYS], fits = 1;
    if (!PyArg_ParseTuple(args, "w*w*w*w*w*w*w*w*w*w*w*p", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &b[6], &b[7], &b[8], &b[9], &b[10],
                          &in_order))
        return NULL;
    for (int i = 0; i < ARRAYS; i++) {
        fits &= b[i].itemsize == sizes[i];
        rows[i] = (int)(b[i].len / sizes[i]);
    }
    Clock c = {.asks = b[ASKS].buf, .queues = b[QUEUES].buf, .issuers = b[ISSUERS].buf, .cores = b[CORES].buf, .tenants = b[TENANTS].buf,
               .memories = b[MEMORIES].buf, .waits = b[WAITS].buf, .touches = b[TOUCHES].buf, .events = b[EVENTS].buf, .times = b[TIMES].buf,
               .rings = b[FREE].buf, .count = rows[EVENTS], .lines = rows[QUEUES], .ring_count = rows[FREE] / (rows[CORES] ? rows[CORES] : 1)};
    if (!fits)
        PyErr_SetString(PyExc_TypeError, "the rows of an array are of another size");
    else if (!(c.ready = PyMem_Calloc(c.lines, sizeof(Heap))))
        PyErr_NoMemory();
    else {
        set_up(&c, rows[WAITS], rows[TOUCHES], in_order);
        for (int i = 0; i < rows[MEMORIES]; i++)
            admit(&c, &c.memories[i], c.times->launch, NONE);
        while (c.agenda.count && c.outcome == DONE)
            next_moment(&c);
        for (int i = 0; i < c.count && c.outcome == DONE; i++)
            c.outcome = c.events[i].has_run ? DONE : STUCK;
        if (c.outcome == NO_MEMORY)
            PyErr_NoMemory();
        for (int i = 0; i < c.lines; i++)
            PyMem_Free(c.ready[i].entries);
    }
    PyMem_Free(c.ready), PyMem_Free(c.agenda.entries);
    for (int i = 0; i < ARRAYS; i++)
        PyBuffer_Release(&b[i]);
    return PyErr_Occurred() ? NULL : PyLong_FromLong(c.outcome);
}

static PyMethodDef functions[] = {{"run", run, METH_VARARGS, "Let time pass until every event has run."}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "clock", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_clock(void)
{
    return PyModule_Create(&definition);
}
