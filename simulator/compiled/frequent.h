/* What the files of `frequent` share: where the slots of Python's objects lie, and the classes that it was given.
 *
 *     slices.c         NkiTensor.__getitem__, spread, moved_to    (triptych.simulator.tensors.tensor, slicing, machine.dynamic)
 *     contents.c       NkiTensor.array, f32 and wrote, Storage.wrote, wrote_rows     (tensors.tensor, memory.storage, mask, pool)
 *     moves.c          move                                  (operands.operands)
 *     matrices.c       _multiply and move_transposed         (engines.tensor, operands.operands)
 *     allocations.c    Machine.allocate                      (machine.machine, errors.Lines, memory.storage, held)
 *     keys.c           the key of a call                     (machine.forms, machine.machine)
 *     instructions.c   Machine.execute, regions_of, carry_out    (machine.machine, machine.instructions)
 *     drivers.c        what compute of a machine does        (machine.deferral.deferred, machine.shape_only)
 *     frequent.c       puts them there
 *
 * Each function is the frequent case of one in Python, after whose text it is written, and hands every other case, and every
 * error, to that one. It reads and writes the slots of tensors, storages and events where Python put them, and makes the same
 * objects. A trace does not show which of the two made it; the tests compare them. How it comes into use:
 * triptych.simulator.compiled.in_place.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <frameobject.h> /* PyFrame_GetBack, in Python 3.10 */
#include <string.h>
#include <structmember.h>

#define MOST 8 /* dimensions of a tensor in the frequent case */

/* Where the slots of Python's objects lie, by class: SLOT(tensor, Tensor_offset) is the offset of an NkiTensor. */
#define SLOTS_OF(X) \
    X(Tensor, storage) X(Tensor, buffer) X(Tensor, on_chip) X(Tensor, layout) X(Tensor, offset) X(Tensor, shape) \
    X(Tensor, strides) X(Tensor, dtype) X(Tensor, index) X(Tensor, is_comparison) X(Tensor, form) X(Tensor, region) \
    X(Tensor, _array) \
    X(Storage, _f32) X(Storage, _raw) X(Storage, allocation) X(Storage, dense) X(Storage, held) X(Storage, holder) \
    X(Storage, itemsize) X(Storage, mask) X(Storage, missing) X(Storage, nbytes) X(Storage, np) X(Storage, padding) \
    X(Storage, partition) X(Storage, pending) X(Storage, pool) X(Storage, row) X(Storage, started) X(Storage, widened) \
    X(Storage, worlds) \
    X(ShapeStorage, _written) \
    X(Mask, bits) X(Mask, unit) \
    X(Held, bytes) X(Held, peak) \
    X(Plan, attributes) X(Plan, by_matmul) X(Plan, compute) X(Plan, decide) X(Plan, engine) X(Plan, fresh) X(Plan, late) \
    X(Plan, marks) X(Plan, needs) X(Plan, moves) X(Plan, multiplies) X(Plan, operands) X(Plan, register) X(Plan, results) X(Plan, use) \
    X(Picks, numbers) \
    X(Pending, book) X(Pending, entries) X(Pending, is_lent) X(Pending, operands) \
    X(Product, is_shared) X(Product, left) X(Product, m) X(Product, right) \
    X(Event, op) X(Event, engine) X(Event, reads) X(Event, writes) X(Event, line) X(Event, core) X(Event, name) \
    X(Event, attributes) \
    X(Machine, core) X(Machine, cores) X(Machine, doubtful_accumulators) X(Machine, held) X(Machine, index_reads) \
    X(Machine, index_writers) X(Machine, line) X(Machine, lines) X(Machine, options) X(Machine, origins) X(Machine, plans) \
    X(Machine, pool) X(Machine, rounds) X(Machine, scope) X(Machine, shapes) X(Machine, trace) X(Machine, tries) \
    X(Book, in_vain) X(Book, trusts) \
    X(Lines, _bound) X(Lines, known) \
    X(Trace, allocations) X(Trace, events)
#define COUNT_SLOT(type, name) type##_##name,
enum { SLOTS_OF(COUNT_SLOT) SLOTS };
extern Py_ssize_t slots[SLOTS];
#define SLOT(object, slot) (*(PyObject **)((char *)(object) + slots[slot]))

static inline void set_slot(PyObject *object, int slot, PyObject *value) /* steals the value */
{
    PyObject *before = SLOT(object, slot);
    SLOT(object, slot) = value;
    Py_XDECREF(before);
}

/* What `install` is given: classes, functions of what is not frequent, and values that are known by being the same. */
#define GIVEN(X) \
    X(Machine) X(DeferredMachine) X(ShapeMachine) X(Book) X(Lines) X(Trace) \
    X(Tensor) X(Storage) X(Mask) X(Pool) X(Held) X(Layout) X(Region) X(Allocation) X(Event) X(Plan) X(Picks) X(Pending) X(Product) X(Reference) X(DType) X(Enumeration) \
    X(instructions) X(dynamic) X(machines) X(pools) X(frombuffer) X(byte_dtype) X(zeros) X(bool_dtype) X(current) X(plain_kinds) X(tuples) X(form_number) X(describe) X(sizes_of) X(f32_dtype) X(ndarray) \
    X(find_sgemm) X(same_bits) X(here) X(move) X(transposing) X(turning) X(widening) X(empty) X(numbers) X(through) X(shared) X(no_bytes) X(marked) X(unmarked) X(ShapeStorage) X(tensor_engine)
#define DECLARE_GIVEN(name) extern PyObject *name;
GIVEN(DECLARE_GIVEN)

/* The functions in Python in whose place those of these files stand. */
#define REPLACED(X) X(getitem) X(array) X(f32) X(unused) X(tensor_wrote) X(storage_wrote) X(storage_wrote_rows) X(storage_del) X(allocate) X(execute) X(carry_out) X(moved_to) X(spread) X(regions_of)
#define DECLARE_REPLACED(name) extern PyObject *name##_in_python;
REPLACED(DECLARE_REPLACED)

/* Names of attributes. */
#define NAMES(X) \
    X(begin) X(book) X(by_matmul) X(check_uninitialized) X(compute) X(itemsize) X(machine) X(missing) X(name) X(np) X(perform) \
    X(region) X(round_low_precision) X(storage_for) X(wrote) X(_free) X(_live) X(_name_) X(_unused) X(_value_)
#define DECLARE_NAME(name) extern PyObject *n_##name;
NAMES(DECLARE_NAME)
extern PyObject *no_arguments, *no_name; /* () and "" */

/* Whether an object is a machine, of a trace and lines whose slots are known. */
static inline int is_machine(PyObject *object)
{
    if (!PyObject_TypeCheck(object, (PyTypeObject *)Machine))
        return 0;
    PyObject *trace = SLOT(object, Machine_trace), *lines = SLOT(object, Machine_lines);
    return trace && lines && (PyObject *)Py_TYPE(trace) == Trace && (PyObject *)Py_TYPE(lines) == Lines;
}

/* The function in Python, of a method with these arguments. */
PyObject *call_in_python(PyObject *function, PyObject *self, PyObject *const *given, Py_ssize_t count, PyObject *names);

/* slices.c. Of what comes in, a reference is taken where it says "steals". */
PyObject *named_tuple(PyObject *type, Py_ssize_t count, PyObject **values);
PyObject *one_tuple(Py_ssize_t count, const Py_ssize_t *numbers);
PyObject *new_tensor(PyObject *storage, PyObject *buffer, PyObject *on_chip, PyObject *is_comparison, PyObject *fields[4]);
PyObject *getitem(PyObject *tensor, PyObject *key);
PyObject *moved_to(PyObject *module, PyObject *const *given, Py_ssize_t count);
PyObject *spread(PyObject *module, PyObject *const *given, Py_ssize_t count);

/* contents.c */
PyObject *array(PyObject *tensor, void *closure);
PyObject *f32(PyObject *tensor, PyObject *nothing);
PyObject *unused(PyObject *module, PyObject *const *given, Py_ssize_t count);
PyObject *tensor_wrote(PyObject *tensor, PyObject *nothing);
int is_open(PyObject *storage);
int has_bytes(PyObject *storage);
/* Note that a view of a storage was written: 1; 0 if Python has to, which may do all of it once more. */
int note_written(PyObject *storage, PyObject *layout, PyObject *by_matmul);
PyObject *storage_wrote(PyObject *storage, PyObject *const *given, Py_ssize_t count, PyObject *names);
PyObject *storage_wrote_rows(PyObject *storage, PyObject *const *given, Py_ssize_t count, PyObject *names);

/* moves.c and matrices.c: 1 if all was done, 0 if Python has to do all of it, -1. */
int move_bytes(PyObject *dst, PyObject *src);
int multiply(PyObject *dst, PyObject *stationary, PyObject *moving, int adds);
int transpose(PyObject *dst, PyObject *data);
/* A new array of what engines see of a matrix of bfloat16, which its storage keeps; NULL, maybe without an error, where Python has to. */
PyObject *widened(PyObject *tensor);
/* Copy a matrix transposed, which says whether it was done, and bfloat16 to float32. Of casts.c; NULL without it. */
typedef int (*Turning)(const char *from, Py_ssize_t step, char *to, Py_ssize_t step_to, Py_ssize_t m, Py_ssize_t n, Py_ssize_t itemsize);
typedef void (*Widening)(const char *from, Py_ssize_t step, char *to, Py_ssize_t step_to, Py_ssize_t m, Py_ssize_t n);
extern Turning turn;
extern Widening widen;

/* allocations.c */
PyObject *allocate(PyObject *machine, PyObject *const *given, Py_ssize_t count, PyObject *names);
PyObject *storage_del(PyObject *storage, PyObject *nothing);
/* The innermost frame that is not the simulator's, or NULL. */
PyFrameObject *frame_of_kernel(void);
/* What a dict of Lines has of the place where a frame stands, borrowed; NULL if nothing. */
PyObject *known_at(PyObject *known, PyFrameObject *frame);

/* keys.c */
/* The key of a call, and its tensors in `listed`; NULL without an error if it has none. */
PyObject *key_of(PyObject *effect, PyObject *args, PyObject *kwargs, PyObject *label, PyObject *listed);

/* instructions.c */
PyObject *execute(PyObject *machine, PyObject *const *given, Py_ssize_t count);
PyObject *carry_out(PyObject *module, PyObject *const *given, Py_ssize_t count);
PyObject *regions_of(PyObject *module, PyObject *touched);

/* drivers.c */
int compute(PyObject *machine, PyObject *plan, PyObject *results, PyObject *operands);
