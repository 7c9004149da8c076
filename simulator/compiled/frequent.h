/* What the files of `frequent` share: where the slots of Python's objects lie, and the classes that it was given.
 *
 *     slices.c         NkiTensor.__getitem__                 (triptych.simulator.tensors.tensor, slicing)
 *     contents.c       NkiTensor.array, f32 and wrote, Storage.wrote     (tensors.tensor, memory.storage, mask, pool)
 *     allocations.c    Machine.allocate                      (machine.machine, errors.Lines, memory.storage, held)
 *     instructions.c   Machine.execute and carry_out         (machine.machine, machine.instructions)
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
#include <string.h>
#include <structmember.h>

#define MOST 8 /* dimensions of a tensor in the frequent case */

/* Slots of an NkiTensor, a Storage, a Mask and so on: their names, and where each lies in its object. */
#define OF_TENSOR(X) \
    X(storage) X(buffer) X(on_chip) X(layout) X(offset) X(shape) X(strides) X(dtype) X(index) X(is_comparison) X(form) X(region) X(_array)
#define OF_STORAGE(X) \
    X(_f32) X(_raw) X(allocation) X(dense) X(held) X(holder) X(itemsize) X(mask) X(missing) X(nbytes) X(np) X(padding) X(partition) \
    X(pending) X(pool) X(row) X(started) X(widened) X(worlds)
#define OF_MASK(X) X(bits) X(unit)
#define OF_HELD(X) X(bytes) X(peak)
#define OF_SHAPE(X) X(_written) /* more of a ShapeStorage */
#define OF_PLAN(X) \
    X(attributes) X(by_matmul) X(compute) X(decide) X(engine) X(fresh) X(marks) X(needs) X(moves) X(multiplies) X(operands) X(register) \
    X(results) X(use)
#define OF_PENDING(X) X(entries) X(operands)
#define OF_PRODUCT(X) X(is_shared) X(left) X(m) X(right)
#define OF_EVENT(X) X(op) X(engine) X(reads) X(writes) X(line) X(core) X(name) X(attributes)
#define COUNT_TENSOR(name) tensor_##name,
#define COUNT_STORAGE(name) storage_##name,
#define COUNT_MASK(name) mask_##name,
#define COUNT_HELD(name) held_##name,
#define COUNT_EVENT(name) event_##name,
#define COUNT_SHAPE(name) shape_##name,
#define COUNT_PLAN(name) plan_##name,
#define COUNT_PENDING(name) pending_##name,
#define COUNT_PRODUCT(name) product_##name,
enum { OF_TENSOR(COUNT_TENSOR) OF_STORAGE(COUNT_STORAGE) OF_MASK(COUNT_MASK) OF_HELD(COUNT_HELD) OF_EVENT(COUNT_EVENT) OF_SHAPE(COUNT_SHAPE) OF_PLAN(COUNT_PLAN)
       OF_PENDING(COUNT_PENDING) OF_PRODUCT(COUNT_PRODUCT) SLOTS };
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
    X(Machine) X(DeferredMachine) X(ShapeMachine) \
    X(Tensor) X(Storage) X(Mask) X(Pool) X(Held) X(Layout) X(Region) X(Allocation) X(Event) X(Plan) X(Pending) X(Product) X(DType) X(Enumeration) \
    X(instructions) X(pools) X(frombuffer) X(byte_dtype) X(zeros) X(bool_dtype) X(current) X(plain_kinds) X(tuples) X(form_number) X(describe) X(sizes_of) X(f32_dtype) X(ndarray) \
    X(here) X(shared) X(no_bytes) X(ShapeStorage) X(tensor_engine)
#define DECLARE_GIVEN(name) extern PyObject *name;
GIVEN(DECLARE_GIVEN)

/* The functions in Python in whose place those of these files stand. */
#define REPLACED(X) X(getitem) X(array) X(f32) X(unused) X(tensor_wrote) X(storage_wrote) X(storage_del) X(allocate) X(execute) X(carry_out)
#define DECLARE_REPLACED(name) extern PyObject *name##_in_python;
REPLACED(DECLARE_REPLACED)
/* Methods of machines, of which one has this or that. */
extern PyObject *append_in_python, *storage_for_in_python, *storage_for_shapes, *compute_deferred, *compute_shapes;

/* Names of attributes. */
#define NAMES(X) \
    X(allocations) X(append) X(begin) X(book) X(by_matmul) X(check_uninitialized) X(compute) X(core) X(cores) \
    X(doubtful_accumulators) X(events) X(f_lasti) X(held) X(in_vain) X(index_reads) X(index_writers) X(itemsize) X(known) \
    X(line) X(lines) X(machine) X(name) X(np) X(options) X(origins) X(perform) X(plans) X(pool) X(region) X(round_low_precision) \
    X(rounds) X(scope) X(shapes) X(storage_for) X(trace) X(tries) X(trusts) X(wrote) X(_bound) X(_free) X(_live) X(_name_) \
    X(_unused) X(_value_)
#define DECLARE_NAME(name) extern PyObject *n_##name;
NAMES(DECLARE_NAME)
extern PyObject *no_arguments, *no_name; /* () and "" */

/* The function in Python, of a method with these arguments. */
PyObject *call_in_python(PyObject *function, PyObject *self, PyObject *const *given, Py_ssize_t count, PyObject *names);

/* slices.c. Of what comes in, a reference is taken where it says "steals". */
PyObject *named_tuple(PyObject *type, Py_ssize_t count, PyObject **values);
PyObject *one_tuple(Py_ssize_t count, const Py_ssize_t *numbers);
PyObject *new_tensor(PyObject *storage, PyObject *buffer, PyObject *on_chip, PyObject *is_comparison, PyObject *fields[4]);
PyObject *getitem(PyObject *tensor, PyObject *key);

/* contents.c */
PyObject *array(PyObject *tensor, void *closure);
PyObject *f32(PyObject *tensor, PyObject *nothing);
PyObject *unused(PyObject *module, PyObject *const *given, Py_ssize_t count);
PyObject *tensor_wrote(PyObject *tensor, PyObject *nothing);
int note_written(PyObject *storage, PyObject *layout, PyObject *by_matmul);
PyObject *storage_wrote(PyObject *storage, PyObject *const *given, Py_ssize_t count, PyObject *names);

/* allocations.c */
PyObject *allocate(PyObject *machine, PyObject *const *given, Py_ssize_t count, PyObject *names);
PyObject *storage_del(PyObject *storage, PyObject *nothing);
/* The innermost frame that is not the simulator's, or NULL. */
PyFrameObject *frame_of_kernel(void);
/* What a dict of Lines has of the place where a frame stands, borrowed; NULL if nothing. */
PyObject *known_at(PyObject *known, PyFrameObject *frame);

/* instructions.c */
PyObject *execute(PyObject *machine, PyObject *const *given, Py_ssize_t count);
PyObject *carry_out(PyObject *module, PyObject *const *given, Py_ssize_t count);

/* drivers.c */
int compute(PyObject *machine, PyObject *plan, PyObject *results, PyObject *operands);
