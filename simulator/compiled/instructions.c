/* An instruction whose plan is known: Machine.execute, with perform, append and form_of, and what calls it, carry_out. */
#include "frequent.h"

/* Fields of a Declared, of which the first is asked for, of a Kind and of a Known, which are tuples. */
enum { DECLARED_KIND };
enum { KIND_NAME, KIND_EFFECT, KIND_RULES, KIND_LABEL };
enum { KNOWN_PLAN, KNOWN_READS, KNOWN_WRITES, KNOWN_OPERANDS, KNOWN_CHECK };


/* The form of a tensor, which keeps it: forms.form_of. */
static PyObject *form_of(PyObject *tensor)
{
    PyObject *form = SLOT(tensor, tensor_form);
    if (form != Py_None)
        return Py_NewRef(form);
    PyObject *storage = SLOT(tensor, tensor_storage), *row = SLOT(storage, storage_row), *first = SLOT(storage, storage_partition);
    PyObject *buffer = PyLong_FromVoidPtr(SLOT(tensor, tensor_buffer));
    if (!row || !first) /* of a view that leaves its tensor */
        PyErr_SetString(PyExc_AttributeError, "row");
    int lies_in_rows = row && first && buffer ? PyObject_IsTrue(row) : -1;
    form = lies_in_rows < 0 ? NULL
                            : PyObject_CallFunctionObjArgs(form_number, lies_in_rows ? SLOT(tensor, tensor_offset) : row,
                                                           SLOT(tensor, tensor_shape), SLOT(tensor, tensor_strides),
                                                           SLOT(tensor, tensor_dtype), row, first, buffer, NULL);
    Py_XDECREF(buffer);
    if (form)
        set_slot(tensor, tensor_form, Py_NewRef(form));
    return form;
}

/* Add an argument to the key of a call, and its tensors to `listed`: 1; 0 if it has no key; -1 for an error. */
static int add_to_key(PyObject *value, PyObject *key, PyObject *listed)
{
    PyObject *kind = (PyObject *)Py_TYPE(value);
    if (kind == Tensor && SLOT(value, tensor_index) == Py_None) {
        PyObject *form = form_of(value);
        int failed = !form || PyList_Append(key, form) || PyList_Append(listed, value);
        Py_XDECREF(form);
        return failed ? -1 : 1;
    }
    if ((PyObject *)Py_TYPE(kind) == Enumeration) {
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

static int is_zero(PyObject *number)
{
    return number && PyLong_CheckExact(number) && PyLong_AsLong(number) == 0;
}

/* Whether Machine.perform does no more for a plan than `carry_out` does: 1, 0, or -1 for an error. */
static int is_frequent(PyObject *machine, PyObject *plan, PyObject *reads)
{
    PyObject *const of_machine[] = {n_scope, n_index_writers, n_index_reads, n_doubtful_accumulators, n_tries};
    if (SLOT(plan, plan_needs) != Py_None || SLOT(plan, plan_marks) != Py_None || SLOT(plan, plan_register) != Py_None)
        return 0;
    int usual = is_usual(machine, n_cores, 1);
    for (size_t i = 0; usual == 1 && i < sizeof of_machine / sizeof *of_machine; i++)
        usual = is_usual(machine, of_machine[i], 0);
    for (Py_ssize_t i = 0; usual == 1 && i < PyTuple_GET_SIZE(reads); i++)
        usual = is_zero(SLOT(SLOT(PyTuple_GET_ITEM(reads, i), tensor_storage), storage_missing));
    PyObject *append = usual == 1 ? PyObject_GetAttr((PyObject *)Py_TYPE(machine), n_append) : NULL;
    if (usual == 1)
        usual = append ? append == append_in_python : -1;
    Py_XDECREF(append);
    return usual;
}

/* Of tensors, and of registers of an accumulator. */
static PyObject *regions_of(PyObject *touched)
{
    PyObject *regions = PyTuple_New(PyTuple_GET_SIZE(touched));
    for (Py_ssize_t i = 0; regions && i < PyTuple_GET_SIZE(touched); i++) {
        PyObject *one = PyTuple_GET_ITEM(touched, i);
        PyObject *region = (PyObject *)Py_TYPE(one) == Tensor ? Py_NewRef(SLOT(one, tensor_region)) : PyObject_GetAttr(one, n_region);
        if (region)
            PyTuple_SET_ITEM(regions, i, region);
        else
            Py_CLEAR(regions);
    }
    return regions;
}

/* Append the event of a plan: Machine.append. */
static PyObject *append_event(PyObject *machine, PyObject *name, PyObject *plan, PyObject *reads, PyObject *writes, PyObject *label)
{
    PyObject *event = PyBaseObject_Type.tp_new((PyTypeObject *)Event, no_arguments, NULL);
    PyObject *trace = PyObject_GetAttr(machine, n_trace), *events = trace ? PyObject_GetAttr(trace, n_events) : NULL;
    const struct { int slot; PyObject *value; } values[] = {
        {event_op, Py_NewRef(name)}, {event_engine, PyObject_GetAttr(SLOT(plan, plan_engine), n__name_)},
        {event_reads, regions_of(reads)}, {event_writes, regions_of(writes)},
        {event_line, PyObject_GetAttr(machine, n_line)}, {event_core, PyObject_GetAttr(machine, n_core)},
        {event_name, Py_NewRef(label)}, {event_attributes, Py_NewRef(SLOT(plan, plan_attributes))}};
    int failed = !event || !events;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        failed |= !values[i].value;
        if (event)
            SLOT(event, values[i].slot) = values[i].value;
        else
            Py_XDECREF(values[i].value);
    }
    if (failed || PyList_Append(events, event))
        Py_CLEAR(event);
    Py_XDECREF(trace), Py_XDECREF(events);
    return event;
}

/* *both += more, two tuples; 0, or -1 for an error. */
static int extend(PyObject **both, PyObject *more)
{
    PyObject *before = *both;
    if (PyTuple_GET_SIZE(more)) {
        *both = PySequence_Concat(before, more);
        Py_DECREF(before);
    }
    return *both ? 0 : -1;
}

/* What a plan asks at each call; of a matmul that may add without Python, where a matmul wrote all of its dst:
 * engines.matmul_limits.accumulating.
 */
static PyObject *decided(PyObject *machine, PyObject *plan, PyObject *operands)
{
    PyObject *dst = SLOT(plan, plan_by_matmul) == Py_True ? PyTuple_GET_ITEM(operands, 0) : NULL;
    if (dst && (PyObject *)Py_TYPE(dst) == Tensor && SLOT(SLOT(dst, tensor_storage), storage_started) == Py_True
        && is_usual(machine, n_origins, 0) == 1)
        return Py_NewRef(Py_True);
    return PyErr_Occurred() ? NULL : PyObject_CallObject(SLOT(plan, plan_decide), operands);
}

/* What a plan does with the registers of an accumulator, which are read and written, too: Use.begin. */
static int begin_use(PyObject *use, PyObject **reads, PyObject **writes)
{
    PyObject *pair = PyObject_CallMethodNoArgs(use, n_begin);
    int is_pair = pair && PyTuple_CheckExact(pair) && PyTuple_GET_SIZE(pair) == 2;
    int failed = !is_pair || extend(reads, PyTuple_GET_ITEM(pair, 0)) || extend(writes, PyTuple_GET_ITEM(pair, 1));
    Py_XDECREF(pair);
    return failed ? -1 : 0;
}

/* Carry out a plan whose reads have been written: Machine.perform. */
static PyObject *carry_out_plan(PyObject *machine, PyObject *name, PyObject *plan, PyObject *reads, PyObject *writes, PyObject *operands,
                                PyObject *label)
{
    PyObject *decide = SLOT(plan, plan_decide), *use = SLOT(plan, plan_use), *results = SLOT(plan, plan_results), *event = NULL;
    results = Py_NewRef(results == Py_None || !PyTuple_GET_SIZE(results) ? writes : results);
    Py_INCREF(operands), Py_INCREF(reads), Py_INCREF(writes);
    if (decide != Py_None) {
        PyObject *answer = decided(machine, plan, operands), *one = answer ? PyTuple_Pack(1, answer) : NULL;
        int failed = !one || extend(&operands, one);
        if (!failed && answer != Py_False && SLOT(plan, plan_by_matmul) == Py_True)
            failed = extend(&reads, writes);
        Py_XDECREF(answer), Py_XDECREF(one);
        if (failed)
            goto end;
    }
    if (use != Py_None && begin_use(use, &reads, &writes))
        goto end;
    if (compute(machine, plan, results, operands) == 1)
        event = append_event(machine, name, plan, reads, writes, label);
end:
    Py_DECREF(results), Py_XDECREF(operands), Py_XDECREF(reads), Py_XDECREF(writes);
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
    PyObject *all = PySequence_Concat(SLOT(plan, plan_operands), tensors), *operands = picked(known, KNOWN_OPERANDS, all);
    int frequent = reads && writes && operands ? is_frequent(machine, plan, reads) : -1;
    if (frequent == 1)
        event = carry_out_plan(machine, PyTuple_GET_ITEM(kind, KIND_NAME), plan, reads, writes, operands, label);
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

/* Carry out a call whose plan is known; NULL without an error where Python has to, or says what is wrong. */
static PyObject *execute_known(PyObject *machine, PyObject *kind, PyObject *args, PyObject *kwargs)
{
    PyObject *listed = PyList_New(0), *key = NULL, *plans = NULL, *tensors = NULL, *event = NULL, *known = NULL;
    PyObject *label = Py_XNewRef(PyDict_GetItemWithError(kwargs, n_name));
    label = label ? label : Py_NewRef(Py_None);
    int is_planned = PyTuple_GET_ITEM(kind, KIND_RULES) != Py_None;
    if (listed && is_planned && PyTuple_GET_SIZE(args) <= PyLong_AsSsize_t(PyTuple_GET_ITEM(kind, KIND_LABEL)))
        key = key_of(PyTuple_GET_ITEM(kind, KIND_EFFECT), args, kwargs, label, listed);
    if (key && (plans = PyObject_GetAttr(machine, n_plans)))
        known = Py_XNewRef(PyDict_GetItemWithError(plans, key));
    if (known && (tensors = PyList_AsTuple(listed)))
        event = perform_known(machine, kind, known, tensors, label);
    else if (PyErr_ExceptionMatches(PyExc_Exception))
        PyErr_Clear();
    Py_XDECREF(listed), Py_XDECREF(key), Py_XDECREF(plans), Py_XDECREF(known), Py_XDECREF(tensors), Py_DECREF(label);
    return event;
}

PyObject *execute(PyObject *machine, PyObject *const *given, Py_ssize_t count)
{
    if (count != 3 || !PyTuple_Check(given[0]) || !PyTuple_CheckExact(given[1]) || !PyDict_CheckExact(given[2])) {
        PyErr_SetString(PyExc_TypeError, "execute takes a kind, a tuple and a dict");
        return NULL;
    }
    PyObject *event = execute_known(machine, given[0], given[1], given[2]);
    return event || PyErr_Occurred() ? event : call_in_python(execute_in_python, machine, given, count, NULL);
}

/* Tell a machine the kernel's line that calls: 1; 0 where it is not known, or -1. */
static int tell_line(PyObject *machine)
{
    PyFrameObject *frame = frame_of_kernel();
    PyObject *lines = PyObject_GetAttr(machine, n_lines), *known = lines ? PyObject_GetAttr(lines, n_known) : NULL;
    PyObject *line = frame && known ? known_at(known, frame) : NULL;
    int told = line ? (PyObject_SetAttr(machine, n_line, line) ? -1 : 1) : 0;
    Py_XDECREF(frame), Py_XDECREF(lines), Py_XDECREF(known);
    return told;
}

PyObject *carry_out(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t count)
{
    PyObject *event = NULL, *machine = PyObject_GetAttr(current, n_machine);
    if (machine && machine != Py_None && count == 3)
        if (is_usual(machine, n_rounds, 0) == 1 && tell_line(machine) == 1) /* a view with an index has no known plan */
            event = execute_known(machine, PyTuple_GET_ITEM(given[0], DECLARED_KIND), given[1], given[2]);
    Py_XDECREF(machine);
    return event || PyErr_Occurred() ? event : PyObject_Vectorcall(carry_out_in_python, given, count, NULL);
}
