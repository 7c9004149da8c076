/* The frequent case of what every line of a kernel does, compiled: a slice of a tensor, and an instruction whose plan is
 * known.
 *
 * Each function here is the frequent case of one in Python, after whose text it is written, and hands every other case, and
 * every error, to that one:
 *
 *     getitem   NkiTensor.__getitem__   (triptych.simulator.tensors.tensor, slicing)
 *     execute   Machine.execute         (triptych.simulator.machine.machine), with perform, append and form_of
 *
 * It reads and writes the slots of tensors and events where Python put them, and makes the same objects. A trace does not
 * show which of the two made it; the tests compare them. How it comes into use: triptych.simulator.compiled.in_place.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#define SLOT(object, at) (*(PyObject **)((char *)(object) + (at)))
#define MOST 8 /* dimensions of a tensor in the frequent case */

/* Fields of a Kind and of a Known, which are tuples. */
enum { KIND_NAME, KIND_EFFECT, KIND_RULES, KIND_LABEL };
enum { KNOWN_PLAN, KNOWN_READS, KNOWN_WRITES, KNOWN_OPERANDS, KNOWN_CHECK };

/* The slots of an NkiTensor and of an Event, and where each lies in its object. */
enum { STORAGE, BUFFER, ON_CHIP, LAYOUT, OFFSET, SHAPE, STRIDES, DTYPE, INDEX, IS_COMPARISON, FORM, REGION, ARRAY, TENSOR_SLOTS };
enum { OP, ENGINE, READS, WRITES, LINE, CORE, NAME, ATTRIBUTES, EVENT_SLOTS };
static const char *const tensor_slots[] = {"storage", "buffer", "on_chip", "layout", "offset", "shape", "strides",
                                           "dtype", "index", "is_comparison", "form", "region", "_array"};
static const char *const event_slots[] = {"op", "engine", "reads", "writes", "line", "core", "name", "attributes"};
static Py_ssize_t tensor_at[TENSOR_SLOTS], event_at[EVENT_SLOTS];
#define OF(tensor, what) SLOT(tensor, tensor_at[what])

/* What `install` is given: classes, and functions for what is not frequent. */
static PyTypeObject *Tensor, *Layout, *Region, *Event, *Enumeration;
static PyObject *plain_kinds, *tuples, *form_number, *describe, *getitem_in_python, *execute_in_python, *append_in_python;

/* Names of attributes. */
#define NAMES(X)                                                                                                       \
    X(allocation) X(append) X(attributes) X(by_matmul) X(compute) X(cores) X(decide) X(doubtful_accumulators) X(engine) \
    X(events) X(index_reads) X(index_writers) X(line) X(core) X(marks) X(missing) X(name) X(needs) X(operands) X(partition) \
    X(perform) X(plans) X(register) X(results) X(row) X(scope) X(trace) X(tries) X(use) X(_name_)
#define DECLARE(name) static PyObject *n_##name;
NAMES(DECLARE)
static PyObject *no_arguments, *no_name; /* () and "" */

/* Slices. Of what comes in, a reference is taken where it says "steals". */

/* tuple.__new__(type, values); steals the values, of which NULL is an error that is set. */
static PyObject *named_tuple(PyTypeObject *type, Py_ssize_t count, PyObject **values)
{
    PyObject *made = type->tp_alloc(type, count);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (made && values[i])
            PyTuple_SET_ITEM(made, i, values[i]);
        else {
            Py_XDECREF(values[i]);
            Py_CLEAR(made);
        }
    }
    return made;
}

/* The tuple of these numbers, the one that every layout has (memory.layout, one_tuple). */
static PyObject *one_tuple(Py_ssize_t count, const Py_ssize_t *numbers)
{
    PyObject *made = PyTuple_New(count);
    for (Py_ssize_t i = 0; made && i < count; i++) {
        PyObject *number = PyLong_FromSsize_t(numbers[i]);
        if (number)
            PyTuple_SET_ITEM(made, i, number);
        else
            Py_CLEAR(made);
    }
    PyObject *one = made ? Py_XNewRef(PyDict_SetDefault(tuples, made, made)) : NULL;
    Py_XDECREF(made);
    return one;
}

/* A view of a tensor's storage that has no index, as NkiTensor._set makes it; steals shape and strides. */
static PyObject *view_of(PyObject *tensor, Py_ssize_t first, PyObject *shape, PyObject *strides)
{
    PyObject *dtype = OF(tensor, DTYPE), *view = NULL, *layout = NULL, *region = NULL, *allocation = NULL;
    PyObject *offset = PyLong_FromSsize_t(first);
    if (offset && shape && strides && (allocation = PyObject_GetAttr(OF(tensor, STORAGE), n_allocation))) {
        PyObject *values[] = {allocation, Py_NewRef(offset), Py_NewRef(shape), Py_NewRef(strides), Py_NewRef(dtype)};
        region = named_tuple(Region, 5, values);
        PyObject *fields[] = {Py_NewRef(offset), Py_NewRef(shape), Py_NewRef(strides), Py_NewRef(dtype)};
        layout = named_tuple(Layout, 4, fields);
        view = PyBaseObject_Type.tp_new(Tensor, no_arguments, NULL);
    }
    if (!view || !layout || !region) {
        Py_XDECREF(view), Py_XDECREF(layout), Py_XDECREF(region), Py_XDECREF(offset), Py_XDECREF(shape), Py_XDECREF(strides);
        return NULL;
    }
    OF(view, STORAGE) = Py_NewRef(OF(tensor, STORAGE));
    OF(view, BUFFER) = Py_NewRef(OF(tensor, BUFFER));
    OF(view, ON_CHIP) = Py_NewRef(OF(tensor, ON_CHIP));
    OF(view, LAYOUT) = layout;
    OF(view, OFFSET) = offset;
    OF(view, SHAPE) = shape;
    OF(view, STRIDES) = strides;
    OF(view, DTYPE) = Py_NewRef(dtype);
    OF(view, INDEX) = Py_NewRef(Py_None);
    OF(view, IS_COMPARISON) = Py_NewRef(OF(tensor, IS_COMPARISON));
    OF(view, FORM) = Py_NewRef(Py_None);
    OF(view, REGION) = region;
    OF(view, ARRAY) = Py_NewRef(Py_None);
    return view;
}

/* Whether a bound of a slice, or an index, is a plain number or left out; from the end where it is negative. */
static int is_number(PyObject *value, Py_ssize_t left_out, Py_ssize_t size, Py_ssize_t *number)
{
    if (value == Py_None) {
        *number = left_out;
        return 1;
    }
    int over = 0;
    long long found = PyLong_CheckExact(value) ? PyLong_AsLongLongAndOverflow(value, &over) : (over = 1);
    *number = (Py_ssize_t)(found < 0 ? found + size : found);
    return !over;
}

static PyObject *getitem(PyObject *tensor, PyObject *key)
{
    PyObject *shape = OF(tensor, SHAPE), *strides = OF(tensor, STRIDES), *const *keys = &key;
    Py_ssize_t dimensions = PyTuple_GET_SIZE(shape), many = 1, left = 0, counts[MOST + 2], steps[MOST + 2];
    Py_ssize_t first = PyLong_AsSsize_t(OF(tensor, OFFSET));
    int on_chip = OF(tensor, ON_CHIP) == Py_True, all_stay = 1;
    if (PyTuple_CheckExact(key)) {
        keys = ((PyTupleObject *)key)->ob_item;
        many = PyTuple_GET_SIZE(key);
    }
    if (OF(tensor, INDEX) != Py_None || many > dimensions || dimensions > MOST)
        goto other;
    for (Py_ssize_t d = 0; d < dimensions; d++) {
        Py_ssize_t size = PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, d)), start = 0, stop = size;
        Py_ssize_t step = PyLong_AsSsize_t(PyTuple_GET_ITEM(strides, d));
        int is_index = 0;
        if (d < many && PySlice_Check(keys[d])) {
            PySliceObject *slice = (PySliceObject *)keys[d];
            if (slice->step != Py_None || !is_number(slice->start, 0, size, &start) || !is_number(slice->stop, size, size, &stop))
                goto other;
        }
        else if (d < many) {
            if (keys[d] == Py_None || !is_number(keys[d], 0, size, &start))
                goto other;
            stop = start + 1;
            is_index = 1;
        }
        if (!(0 <= start && start < stop && stop <= size))
            goto other;
        first += start * step;
        if (is_index && !(on_chip && d == 0)) {
            all_stay = 0;
            continue;
        }
        counts[left] = stop - start;
        steps[left++] = step;
    }
    for (; left < (on_chip ? 2 : 1); all_stay = 0)
        counts[left] = steps[left] = 1, left++;
    return view_of(tensor, first, one_tuple(left, counts), all_stay ? Py_NewRef(strides) : one_tuple(left, steps));
other:
    return PyObject_CallFunctionObjArgs(getitem_in_python, tensor, key, NULL);
}

/* Instructions */

/* The form of a tensor, which keeps it: forms.form_of. */
static PyObject *form_of(PyObject *tensor)
{
    PyObject *form = OF(tensor, FORM);
    if (form != Py_None)
        return Py_NewRef(form);
    PyObject *row = PyObject_GetAttr(OF(tensor, STORAGE), n_row), *first = PyObject_GetAttr(OF(tensor, STORAGE), n_partition);
    PyObject *buffer = PyLong_FromVoidPtr(OF(tensor, BUFFER));
    int lies_in_rows = row && first && buffer ? PyObject_IsTrue(row) : -1;
    form = lies_in_rows < 0 ? NULL
                            : PyObject_CallFunctionObjArgs(form_number, lies_in_rows ? OF(tensor, OFFSET) : row, OF(tensor, SHAPE),
                                                           OF(tensor, STRIDES), OF(tensor, DTYPE), row, first, buffer, NULL);
    Py_XDECREF(row), Py_XDECREF(first), Py_XDECREF(buffer);
    if (form) {
        Py_DECREF(OF(tensor, FORM));
        OF(tensor, FORM) = Py_NewRef(form);
    }
    return form;
}

/* Add an argument to the key of a call, and its tensors to `listed`: 1; 0 if it has no key; -1 for an error. */
static int add_to_key(PyObject *value, PyObject *key, PyObject *listed)
{
    PyObject *kind = (PyObject *)Py_TYPE(value);
    if (Py_TYPE(value) == Tensor && OF(value, INDEX) == Py_None) {
        PyObject *form = form_of(value);
        int failed = !form || PyList_Append(key, form) || PyList_Append(listed, value);
        Py_XDECREF(form);
        return failed ? -1 : 1;
    }
    if (Py_TYPE(kind) == Enumeration) {
        PyObject *id = PyLong_FromVoidPtr(value);
        int failed = !id || PyList_Append(key, id);
        Py_XDECREF(id);
        return failed ? -1 : 1;
    }
    int is_plain = PySet_Contains(plain_kinds, kind);
    if (is_plain)
        return is_plain < 0 || PyList_Append(key, kind) || PyList_Append(key, value) ? -1 : 1;
    PyObject *answer = PyObject_CallFunctionObjArgs(describe, value, key, listed, NULL);
    int has_key = answer ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return has_key;
}

/* The key of a call, as Machine.execute makes it, and its tensors in `listed`; NULL without an error if it has none. */
static PyObject *key_of(PyObject *effect, PyObject *args, PyObject *kwargs, PyObject *label, PyObject *listed)
{
    PyObject *key = PyList_New(0), *count = PyLong_FromSsize_t(PyTuple_GET_SIZE(args)), *name, *value, *found = NULL;
    Py_ssize_t at = 0;
    if (!key || !count || PyList_Append(key, effect) || PyList_Append(key, count))
        goto end;
    while (PyDict_Next(kwargs, &at, &name, &value))
        if (PyList_Append(key, name))
            goto end;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args); i++)
        if (add_to_key(PyTuple_GET_ITEM(args, i), key, listed) < 1)
            goto end;
    for (at = 0; PyDict_Next(kwargs, &at, &name, &value);)
        if (add_to_key(label != Py_None && value == label ? no_name : value, key, listed) < 1)
            goto end;
    Py_ssize_t tensors = PyList_GET_SIZE(listed), firsts[MOST], first;
    int repeated = 0;
    if (tensors > MOST)
        goto end;
    for (Py_ssize_t i = 0; i < tensors; i++) {
        for (first = 0; PyList_GET_ITEM(listed, first) != PyList_GET_ITEM(listed, i); first++)
            ;
        firsts[i] = first;
        repeated |= first != i;
    }
    if (repeated) { /* which of them are one */
        PyObject *ones = one_tuple(tensors, firsts);
        int failed = !ones || PyList_Append(key, ones);
        Py_XDECREF(ones);
        if (failed)
            goto end;
    }
    found = PyList_AsTuple(key);
end:
    Py_XDECREF(key), Py_XDECREF(count);
    return found;
}

/* Whether an attribute is what it is in the frequent case, a number or something false: 1, 0, or -1 for an error. */
static int is_usual(PyObject *object, PyObject *name, long number)
{
    PyObject *value = PyObject_GetAttr(object, name);
    if (!value)
        return -1;
    int is_number = PyLong_CheckExact(value), truth = is_number ? PyLong_AsLong(value) != number : PyObject_IsTrue(value);
    Py_DECREF(value);
    return truth < 0 ? -1 : !truth;
}

/* Whether Machine.perform does no more for a plan than `carry_out` does: 1, 0, or -1 for an error. */
static int is_frequent(PyObject *machine, PyObject *plan, PyObject *reads)
{
    PyObject *const of_plan[] = {n_needs, n_use, n_marks, n_register};
    PyObject *const of_machine[] = {n_scope, n_index_writers, n_index_reads, n_doubtful_accumulators, n_tries};
    int usual = is_usual(machine, n_cores, 1);
    for (size_t i = 0; usual == 1 && i < sizeof of_plan / sizeof *of_plan; i++)
        usual = is_usual(plan, of_plan[i], 0);
    for (size_t i = 0; usual == 1 && i < sizeof of_machine / sizeof *of_machine; i++)
        usual = is_usual(machine, of_machine[i], 0);
    for (Py_ssize_t i = 0; usual == 1 && i < PyTuple_GET_SIZE(reads); i++)
        usual = is_usual(OF(PyTuple_GET_ITEM(reads, i), STORAGE), n_missing, 0);
    PyObject *append = usual == 1 ? PyObject_GetAttr((PyObject *)Py_TYPE(machine), n_append) : NULL;
    if (usual == 1)
        usual = append ? append == append_in_python : -1;
    Py_XDECREF(append);
    return usual;
}

static PyObject *regions_of(PyObject *tensors)
{
    PyObject *regions = PyTuple_New(PyTuple_GET_SIZE(tensors));
    for (Py_ssize_t i = 0; regions && i < PyTuple_GET_SIZE(tensors); i++)
        PyTuple_SET_ITEM(regions, i, Py_NewRef(OF(PyTuple_GET_ITEM(tensors, i), REGION)));
    return regions;
}

/* Append the event of a plan: Machine.append. */
static PyObject *append_event(PyObject *machine, PyObject *name, PyObject *plan, PyObject *reads, PyObject *writes, PyObject *label)
{
    PyObject *event = PyBaseObject_Type.tp_new(Event, no_arguments, NULL);
    PyObject *trace = PyObject_GetAttr(machine, n_trace), *events = trace ? PyObject_GetAttr(trace, n_events) : NULL;
    PyObject *engine = PyObject_GetAttr(plan, n_engine), *values[EVENT_SLOTS];
    values[OP] = Py_NewRef(name);
    values[ENGINE] = engine ? PyObject_GetAttr(engine, n__name_) : NULL;
    values[READS] = regions_of(reads);
    values[WRITES] = regions_of(writes);
    values[LINE] = PyObject_GetAttr(machine, n_line);
    values[CORE] = PyObject_GetAttr(machine, n_core);
    values[NAME] = Py_NewRef(label);
    values[ATTRIBUTES] = PyObject_GetAttr(plan, n_attributes);
    int failed = !event || !events;
    for (int i = 0; i < EVENT_SLOTS; i++) {
        failed |= !values[i];
        if (event)
            SLOT(event, event_at[i]) = values[i];
        else
            Py_XDECREF(values[i]);
    }
    if (failed || PyList_Append(events, event))
        Py_CLEAR(event);
    Py_XDECREF(trace), Py_XDECREF(events), Py_XDECREF(engine);
    return event;
}

/* a + b of two tuples; steals a. */
static PyObject *joined(PyObject *a, PyObject *b)
{
    PyObject *both = a && b ? PySequence_Concat(a, b) : NULL;
    Py_XDECREF(a);
    return both;
}

/* Carry out a plan whose reads have been written: Machine.perform. */
static PyObject *carry_out(PyObject *machine, PyObject *name, PyObject *plan, PyObject *reads, PyObject *writes, PyObject *operands,
                           PyObject *label)
{
    PyObject *decide = PyObject_GetAttr(plan, n_decide), *results = PyObject_GetAttr(plan, n_results), *done = NULL, *event = NULL;
    Py_INCREF(operands), Py_INCREF(reads);
    if (!decide || !results)
        goto end;
    if (decide != Py_None) {
        PyObject *answer = PyObject_CallObject(decide, operands);
        PyObject *one = answer ? PyTuple_Pack(1, answer) : NULL;
        operands = joined(operands, one);
        int only_writes = answer == Py_False || is_usual(plan, n_by_matmul, 0);
        if (!only_writes)
            reads = joined(reads, writes);
        Py_XDECREF(answer), Py_XDECREF(one);
        if (!operands || !reads || only_writes < 0)
            goto end;
    }
    int are_named = PyObject_IsTrue(results);
    if (are_named >= 0)
        done = PyObject_CallMethodObjArgs(machine, n_compute, plan, are_named ? results : writes, operands, NULL);
    if (done)
        event = append_event(machine, name, plan, reads, writes, label);
end:
    Py_XDECREF(decide), Py_XDECREF(results), Py_XDECREF(done), Py_XDECREF(operands), Py_XDECREF(reads);
    return event;
}

/* What a function of a Known picks of a call's tensors: a tuple, checked to be one. */
static PyObject *picked(PyObject *known, int which, PyObject *tensors)
{
    PyObject *found = tensors ? PyObject_CallOneArg(PyTuple_GET_ITEM(known, which), tensors) : NULL;
    if (found && !PyTuple_CheckExact(found)) {
        Py_CLEAR(found);
        PyErr_SetString(PyExc_TypeError, "a Known picks tuples");
    }
    return found;
}

static PyObject *perform_known(PyObject *machine, PyObject *kind, PyObject *known, PyObject *tensors, PyObject *label)
{
    PyObject *plan = PyTuple_GET_ITEM(known, KNOWN_PLAN), *check = PyTuple_GET_ITEM(known, KNOWN_CHECK), *event = NULL;
    PyObject *reads = picked(known, KNOWN_READS, tensors), *writes = picked(known, KNOWN_WRITES, tensors);
    PyObject *all = joined(PyObject_GetAttr(plan, n_operands), tensors), *operands = picked(known, KNOWN_OPERANDS, all);
    int frequent = reads && writes && operands ? is_frequent(machine, plan, reads) : -1;
    if (frequent == 1)
        event = carry_out(machine, PyTuple_GET_ITEM(kind, KIND_NAME), plan, reads, writes, operands, label);
    else if (frequent == 0)
        event = PyObject_CallMethodObjArgs(machine, n_perform, kind, plan, reads, writes, operands, label, NULL);
    if (event && check != Py_None) {
        PyObject *checked = PyObject_CallFunctionObjArgs(check, event, PyTuple_GET_ITEM(kind, KIND_RULES), NULL);
        if (!checked)
            Py_CLEAR(event);
        Py_XDECREF(checked);
    }
    Py_XDECREF(reads), Py_XDECREF(writes), Py_XDECREF(all), Py_XDECREF(operands);
    return event;
}

static PyObject *execute(PyObject *machine, PyObject *const *given, Py_ssize_t count)
{
    if (count != 3 || !PyTuple_Check(given[0]) || !PyTuple_CheckExact(given[1]) || !PyDict_CheckExact(given[2])) {
        PyErr_SetString(PyExc_TypeError, "execute takes a kind, a tuple and a dict");
        return NULL;
    }
    PyObject *kind = given[0], *args = given[1], *kwargs = given[2], *event = NULL, *known = NULL;
    PyObject *listed = PyList_New(0), *key = NULL, *plans = NULL, *tensors = NULL;
    PyObject *label = Py_XNewRef(PyDict_GetItemWithError(kwargs, n_name));
    label = label ? label : Py_NewRef(Py_None);
    int is_planned = PyTuple_GET_ITEM(kind, KIND_RULES) != Py_None;
    if (listed && is_planned && PyTuple_GET_SIZE(args) <= PyLong_AsSsize_t(PyTuple_GET_ITEM(kind, KIND_LABEL)))
        key = key_of(PyTuple_GET_ITEM(kind, KIND_EFFECT), args, kwargs, label, listed);
    if (key && (plans = PyObject_GetAttr(machine, n_plans)))
        known = Py_XNewRef(PyDict_GetItemWithError(plans, key));
    if (known && (tensors = PyList_AsTuple(listed)))
        event = perform_known(machine, kind, known, tensors, label);
    else if (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_Exception)) { /* not known, or Python says what is wrong */
        PyErr_Clear();
        event = PyObject_CallFunctionObjArgs(execute_in_python, machine, kind, args, kwargs, NULL);
    }
    Py_XDECREF(listed), Py_XDECREF(key), Py_XDECREF(plans), Py_XDECREF(known), Py_XDECREF(tensors), Py_DECREF(label);
    return event;
}

/* The module */

static int find_slots(PyObject *type, const char *const *names, int count, Py_ssize_t *at)
{
    for (int i = 0; i < count; i++) {
        PyObject *slot = PyObject_GetAttrString(type, names[i]);
        int is_slot = slot && Py_TYPE(slot) == &PyMemberDescr_Type;
        if (is_slot)
            at[i] = ((PyMemberDescrObject *)slot)->d_member->offset;
        else if (slot)
            PyErr_Format(PyExc_TypeError, "%s is no slot of %R", names[i], type);
        Py_XDECREF(slot);
        if (!is_slot)
            return -1;
    }
    return 0;
}

static PyMethodDef methods_in_place[] = { /* with their parameters where `described` puts more */
    {"__getitem__", (PyCFunction)getitem, METH_O, "key"},
    {"execute", (PyCFunction)(void (*)(void))execute, METH_FASTCALL, "kind, args, kwargs"},
};

/* The signature and the documentation of a method, as those of the one in Python are; kept for good. */
static const char *described(const PyMethodDef *method, PyObject *in_python)
{
    PyObject *words = PyObject_GetAttrString(in_python, "__doc__");
    PyObject *text = words ? PyUnicode_FromFormat("%s($self, %s)\n--\n\n%S", method->ml_name, method->ml_doc, words) : NULL;
    Py_XDECREF(words);
    return text ? PyUnicode_AsUTF8(text) : NULL;
}

static PyObject *install(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *machine, *tensor, *layout, *region, *event, *enumeration, *kinds, *shapes, *number, *other;
    if (!PyArg_ParseTuple(args, "OOOOOOOOOO", &machine, &tensor, &layout, &region, &event, &enumeration, &kinds, &shapes, &number, &other))
        return NULL;
    if (execute_in_python) {
        PyErr_SetString(PyExc_RuntimeError, "installed already");
        return NULL;
    }
    if (find_slots(tensor, tensor_slots, TENSOR_SLOTS, tensor_at) || find_slots(event, event_slots, EVENT_SLOTS, event_at))
        return NULL;
    Py_INCREF(args); /* which hold what follows */
    Tensor = (PyTypeObject *)tensor, Layout = (PyTypeObject *)layout, Region = (PyTypeObject *)region;
    Event = (PyTypeObject *)event, Enumeration = (PyTypeObject *)enumeration;
    plain_kinds = kinds, tuples = shapes, form_number = number, describe = other;
    if (!(getitem_in_python = PyObject_GetAttrString(tensor, "__getitem__")) || !(append_in_python = PyObject_GetAttr(machine, n_append))
        || !(execute_in_python = PyObject_GetAttrString(machine, "execute")))
        return NULL;
    PyObject *const owners[] = {tensor, machine}, *const in_python[] = {getitem_in_python, execute_in_python};
    for (int i = 0; i < 2; i++) {
        if (!(methods_in_place[i].ml_doc = described(&methods_in_place[i], in_python[i])))
            return NULL;
        PyObject *method = PyDescr_NewMethod((PyTypeObject *)owners[i], &methods_in_place[i]);
        int failed = !method || PyObject_SetAttrString(owners[i], methods_in_place[i].ml_name, method);
        Py_XDECREF(method);
        if (failed)
            return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"install", install, METH_VARARGS, "Put the functions of this file in the place of those in Python, once."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "frequent", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_frequent(void)
{
#define INTERN(name) || !(n_##name = PyUnicode_InternFromString(#name))
    if (!(no_arguments = PyTuple_New(0)) || !(no_name = PyUnicode_InternFromString("")) NAMES(INTERN))
        return NULL;
    return PyModule_Create(&definition);
}
