/* A new tensor: Machine.allocate, with the kernel's line and variable, its storage, and the count of what is held. */
#include "frequent.h"

enum { CALLERS = 4 }; /* errors._CALLERS */

/* How far a frame has come in its code. */
static PyObject *last_of(PyFrameObject *frame)
{
#if PY_VERSION_HEX >= 0x030B0000
    return PyLong_FromLong(PyFrame_GetLasti(frame));
#else
    return PyObject_GetAttrString((PyObject *)frame, "f_lasti");
#endif
}

PyObject *known_at(PyObject *known, PyFrameObject *frame)
{
    PyCodeObject *code = PyFrame_GetCode(frame);
    PyObject *id = PyLong_FromVoidPtr(code), *at = last_of(frame);
    PyObject *key = id && at ? PyTuple_Pack(2, id, at) : NULL, *found = key ? PyDict_GetItemWithError(known, key) : NULL;
    Py_DECREF(code), Py_XDECREF(id), Py_XDECREF(at), Py_XDECREF(key);
    return found;
}

static int is_ours(PyFrameObject *frame)
{
    PyCodeObject *code = PyFrame_GetCode(frame);
    int ours = (int)PyUnicode_Tailmatch(code->co_filename, here, 0, PY_SSIZE_T_MAX, -1);
    Py_DECREF(code);
    return ours == 1;
}

static PyFrameObject *caller_of(PyFrameObject *frame) /* steals it */
{
    PyFrameObject *caller = PyFrame_GetBack(frame);
    Py_DECREF(frame);
    return caller;
}

PyFrameObject *frame_of_kernel(void)
{
    PyFrameObject *frame = PyEval_GetFrame();
    Py_XINCREF(frame);
    while (frame && is_ours(frame))
        frame = caller_of(frame);
    return frame;
}

/* (line, variable) of the kernel's call that runs: Lines.bound, of places that are known; NULL where Python has to look. */
static PyObject *place_of(PyObject *lines)
{
    PyObject *bound = SLOT(lines, Lines__bound);
    PyFrameObject *frame = frame_of_kernel();
    PyObject *first = frame ? known_at(bound, frame) : NULL, *found = first;
    for (int i = 0; found && !PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(found, 1), "return"); i++) {
        frame = i < CALLERS ? caller_of(frame) : frame;
        found = i < CALLERS && frame ? known_at(bound, frame) : NULL;
    }
    PyObject *place = found ? PyTuple_Pack(2, PyTuple_GET_ITEM(first, 0), PyTuple_GET_ITEM(found, 1)) : NULL;
    Py_XDECREF(frame);
    PyErr_Clear();
    return place;
}

/* The storage of an allocation: Machine.storage_for, of which a machine has its own; steals the pool and the bytes. */
static PyObject *new_storage(PyObject *type, PyObject *allocation, PyObject *pool, PyObject *raw)
{
    PyObject *sizes = PyObject_CallFunctionObjArgs(sizes_of, PyTuple_GET_ITEM(allocation, 2), PyTuple_GET_ITEM(allocation, 3),
                                                   PyTuple_GET_ITEM(allocation, 4), Py_False, NULL);
    PyObject *kept = sizes ? PyDict_New() : NULL, *zero = kept ? PyLong_FromLong(0) : NULL, *storage = NULL;
    if (zero && pool)
        storage = PyBaseObject_Type.tp_new((PyTypeObject *)type, no_arguments, NULL);
    if (!storage) {
        Py_XDECREF(sizes), Py_XDECREF(kept), Py_XDECREF(zero), Py_XDECREF(pool), Py_XDECREF(raw);
        return NULL;
    }
    static const int of_sizes[] = {Storage_widened, Storage_np, Storage_itemsize, Storage_nbytes, Storage_dense, Storage_row};
    static const int nothing_yet[] = {Storage_holder, Storage_mask, Storage_padding, Storage_worlds, Storage_pending};
    for (int i = 0; i < 6; i++)
        SLOT(storage, of_sizes[i]) = Py_NewRef(PyTuple_GET_ITEM(sizes, i));
    for (int i = 0; i < 5; i++)
        SLOT(storage, nothing_yet[i]) = Py_NewRef(Py_None);
    SLOT(storage, Storage_allocation) = Py_NewRef(allocation);
    SLOT(storage, Storage_missing) = Py_NewRef(PyTuple_GET_ITEM(sizes, 3));
    SLOT(storage, Storage_started) = Py_NewRef(Py_False);
    SLOT(storage, Storage_partition) = zero;
    SLOT(storage, Storage__f32) = kept;
    SLOT(storage, Storage_pool) = pool;
    SLOT(storage, Storage__raw) = raw;
    if (type == ShapeStorage)
        SLOT(storage, ShapeStorage__written) = Py_NewRef(Py_None);
    Py_DECREF(sizes);
    return storage;
}

static PyObject *storage_for(PyObject *machine, PyObject *allocation, PyObject *buffer, int is_on_chip)
{
    PyObject *of = (PyObject *)Py_TYPE(machine);
    if (of == ShapeMachine)
        return new_storage(ShapeStorage, allocation, Py_NewRef(Py_None), Py_NewRef(no_bytes));
    if (of == DeferredMachine || of == Machine)
        return new_storage(Storage, allocation, Py_NewRef(is_on_chip ? SLOT(machine, Machine_pool) : Py_None), Py_NewRef(Py_None));
    return PyObject_CallMethodObjArgs(machine, n_storage_for, allocation, buffer, NULL);
}

static Py_ssize_t number_of(PyObject *object, int slot)
{
    return PyLong_AsSsize_t(SLOT(object, slot));
}

static int set_number(PyObject *object, int slot, Py_ssize_t number)
{
    PyObject *value = PyLong_FromSsize_t(number);
    if (value)
        set_slot(object, slot, value);
    return value ? 0 : -1;
}

/* Held.hold. */
static int hold(PyObject *held, PyObject *storage, PyObject *size)
{
    set_slot(storage, Storage_holder, Py_NewRef(held));
    set_slot(storage, Storage_held, Py_NewRef(size));
    Py_ssize_t bytes = number_of(held, Held_bytes) + PyLong_AsSsize_t(size);
    int failed = set_number(held, Held_bytes, bytes);
    return failed || (bytes > number_of(held, Held_peak) && set_number(held, Held_peak, bytes)) ? -1 : 0;
}

PyObject *storage_del(PyObject *storage, PyObject *Py_UNUSED(nothing))
{
    PyObject *holder = SLOT(storage, Storage_holder);
    if (holder && (PyObject *)Py_TYPE(holder) == Held)
        if (set_number(holder, Held_bytes, number_of(holder, Held_bytes) - number_of(storage, Storage_held)))
            return NULL;
    Py_RETURN_NONE;
}

/* Whether an attribute of an object is true. */
static int is_true(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    int truth = value ? PyObject_IsTrue(value) : -1;
    Py_XDECREF(value);
    return truth == 1;
}

PyObject *allocate(PyObject *machine, PyObject *const *given, Py_ssize_t count, PyObject *names)
{
    PyObject *options = SLOT(machine, Machine_options), *made, *value = NULL;
    PyObject *key = NULL, *found = NULL, *place = NULL, *allocation = NULL, *storage = NULL, *tensor = NULL, *number = NULL;
    int is_usual = is_machine(machine) && !names && 3 <= count && count <= 5 && PyTuple_CheckExact(given[0]) && (PyObject *)Py_TYPE(given[1]) == DType;
    is_usual = is_usual && given[2] != shared && (count < 4 || PyUnicode_CheckExact(given[3])) && (count < 5 || given[4] == Py_None);
    is_usual = is_usual && is_true(options, n_round_low_precision) && is_true(options, n_check_uninitialized);
    if (is_usual && (value = PyObject_GetAttr(given[2], n__value_)) && (key = PyTuple_Pack(3, given[0], given[1], value))
        && (found = Py_XNewRef(PyDict_GetItemWithError(SLOT(machine, Machine_shapes), key))))
        place = place_of(SLOT(machine, Machine_lines));
    if (!place) {
        PyErr_Clear();
        tensor = call_in_python(allocate_in_python, machine, given, count, names);
        goto end;
    }
    PyObject *shape = PyTuple_GET_ITEM(found, 0), *size = PyTuple_GET_ITEM(found, 1), *name = count < 4 ? no_name : given[3];
    Py_ssize_t is_on_chip = PyLong_AsSsize_t(size);
    made = SLOT(SLOT(machine, Machine_trace), Trace_allocations);
    if (!PyList_CheckExact(made) || !(number = PyLong_FromSsize_t(PyList_GET_SIZE(made))))
        goto end;
    if (PyUnicode_GET_LENGTH(name) == 0)
        name = PyTuple_GET_ITEM(place, 1);
    name = PyUnicode_GET_LENGTH(name) ? Py_NewRef(name) : PyUnicode_FromFormat("t%S", number);
    PyObject *fields[] = {Py_NewRef(number), name,     Py_NewRef(value), Py_NewRef(shape), Py_NewRef(given[1]),
                          Py_NewRef(PyTuple_GET_ITEM(place, 0)), Py_NewRef(Py_None)};
    allocation = named_tuple(Allocation, 7, fields);
    if (!allocation || PyList_Append(made, allocation) || !(storage = storage_for(machine, allocation, given[2], is_on_chip != 0)))
        goto end;
    PyObject *of_layout[] = {PyLong_FromLong(0), Py_NewRef(shape), Py_NewRef(SLOT(storage, Storage_dense)), Py_NewRef(given[1])};
    tensor = new_tensor(storage, given[2], is_on_chip ? Py_True : Py_False, Py_False, of_layout);
    PyObject *holder = tensor && is_on_chip ? PyDict_GetItemWithError(SLOT(machine, Machine_held), value) : NULL;
    if (holder && hold(holder, storage, size))
        Py_CLEAR(tensor);
end:
    Py_XDECREF(value), Py_XDECREF(key), Py_XDECREF(found), Py_XDECREF(place), Py_XDECREF(allocation), Py_XDECREF(storage), Py_XDECREF(number);
    return tensor;
}
