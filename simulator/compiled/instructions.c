/* An instruction whose plan is known: Machine.execute, with perform and append, and what calls it, carry_out. */
#include "frequent.h"

/* Fields of what are tuples: a Declared, a Kind, its Rules, a Region, an Allocation, a Late and a Known. */
enum { DECLARED_KIND };
enum { KIND_NAME, KIND_EFFECT, KIND_RULES, KIND_LABEL };
enum { RULES_ORDER = 2 };
enum { REGION_ALLOCATION };
enum { ALLOCATION_BUFFER = 2, ALLOCATION_ADDRESS = 6 };
enum { LATE_READS, LATE_WRITES, LATE_RESULTS, LATE_OPERANDS };
enum { KNOWN_PLAN, KNOWN_READS, KNOWN_WRITES, KNOWN_OPERANDS, KNOWN_CHECK };


static int is_zero(PyObject *number)
{
    return number && PyLong_CheckExact(number) && PyLong_AsLong(number) == 0;
}

/* Whether Machine.perform does no more for a plan than `carry_out_plan` does. */
static int is_frequent(PyObject *machine, PyObject *plan, PyObject *reads)
{
    PyObject *cores = SLOT(machine, Machine_cores), *of = (PyObject *)Py_TYPE(machine);
    if (of != DeferredMachine && of != ShapeMachine && of != Machine) /* another may append events in its own way */
        return 0;
    if ((SLOT(plan, Plan_needs) != Py_None && SLOT(plan, Plan_late) == Py_None) || SLOT(plan, Plan_marks) != Py_None
        || SLOT(plan, Plan_register) != Py_None)
        return 0;
    if (!PyLong_CheckExact(cores) || PyLong_AsLong(cores) != 1 || SLOT(machine, Machine_doubtful_accumulators) != Py_False)
        return 0;
    if (PyDict_Size(SLOT(machine, Machine_scope)) || PyUnicode_GetLength(SLOT(machine, Machine_tries)))
        return 0;
    if (PyList_Size(SLOT(machine, Machine_index_writers)) || PyList_Size(SLOT(machine, Machine_index_reads)))
        return 0;
    for (Py_ssize_t i = 0; SLOT(plan, Plan_needs) == Py_None && i < PyTuple_GET_SIZE(reads); i++)
        if (!is_zero(SLOT(SLOT(PyTuple_GET_ITEM(reads, i), Tensor_storage), Storage_missing)))
            return 0;
    return 1;
}

/* Of tensors, of registers of an accumulator, and regions themselves: machine.regions_of. */
static PyObject *regions_in(PyObject *touched)
{
    PyObject *regions = PyTuple_New(PyTuple_GET_SIZE(touched));
    for (Py_ssize_t i = 0; regions && i < PyTuple_GET_SIZE(touched); i++) {
        PyObject *one = PyTuple_GET_ITEM(touched, i), *kind = (PyObject *)Py_TYPE(one);
        PyObject *region = kind == Region ? Py_NewRef(one) : kind == Tensor ? Py_NewRef(SLOT(one, Tensor_region)) : PyObject_GetAttr(one, n_region);
        if (region)
            PyTuple_SET_ITEM(regions, i, region);
        else
            Py_CLEAR(regions);
    }
    return regions;
}

PyObject *regions_of(PyObject *Py_UNUSED(module), PyObject *touched)
{
    PyObject *all = PySequence_Tuple(touched), *regions = all ? regions_in(all) : NULL;
    Py_XDECREF(all);
    return regions;
}

/* Append the event of a plan: Machine.append. */
static PyObject *append_event(PyObject *machine, PyObject *name, PyObject *plan, PyObject *reads, PyObject *writes, PyObject *label)
{
    PyObject *event = PyBaseObject_Type.tp_new((PyTypeObject *)Event, no_arguments, NULL);
    PyObject *events = SLOT(SLOT(machine, Machine_trace), Trace_events);
    const struct { int slot; PyObject *value; } values[] = {
        {Event_op, Py_NewRef(name)}, {Event_engine, PyObject_GetAttr(SLOT(plan, Plan_engine), n__name_)},
        {Event_reads, regions_in(reads)}, {Event_writes, regions_in(writes)},
        {Event_line, Py_NewRef(SLOT(machine, Machine_line))}, {Event_core, Py_NewRef(SLOT(machine, Machine_core))},
        {Event_name, Py_NewRef(label)}, {Event_attributes, Py_NewRef(SLOT(plan, Plan_attributes))}};
    int failed = !event;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        failed |= !values[i].value;
        if (event)
            SLOT(event, values[i].slot) = values[i].value;
        else
            Py_XDECREF(values[i].value);
    }
    if (failed || PyList_Append(events, event))
        Py_CLEAR(event);
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
    PyObject *dst = SLOT(plan, Plan_by_matmul) == Py_True ? PyTuple_GET_ITEM(operands, 0) : NULL;
    if (dst && (PyObject *)Py_TYPE(dst) == Tensor && SLOT(SLOT(dst, Tensor_storage), Storage_started) == Py_True
        && PyDict_Size(SLOT(machine, Machine_origins)) == 0)
        return Py_NewRef(Py_True);
    return PyErr_Occurred() ? NULL : PyObject_CallObject(SLOT(plan, Plan_decide), operands);
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
    PyObject *decide = SLOT(plan, Plan_decide), *use = SLOT(plan, Plan_use), *results = SLOT(plan, Plan_results), *event = NULL;
    results = Py_NewRef(results == Py_None || !PyTuple_GET_SIZE(results) ? writes : results);
    Py_INCREF(operands), Py_INCREF(reads), Py_INCREF(writes);
    if (decide != Py_None) {
        PyObject *answer = decided(machine, plan, operands), *one = answer ? PyTuple_Pack(1, answer) : NULL;
        int failed = !one || extend(&operands, one);
        if (!failed && answer != Py_False && SLOT(plan, Plan_by_matmul) == Py_True)
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

/* Carry out a plan that reads indices of rows now: Machine.perform; NULL without an error where Python has to. */
static PyObject *carry_out_late(PyObject *machine, PyObject *name, PyObject *plan, PyObject *operands, PyObject *label)
{
    PyObject *late = PyObject_CallObject(SLOT(plan, Plan_late), operands), *needed = NULL, *event = NULL;
    if (late)
        needed = PyObject_CallObject(SLOT(plan, Plan_needs), PyTuple_GET_ITEM(late, LATE_OPERANDS));
    if (!needed && PyErr_ExceptionMatches(PyExc_Exception)) /* Python says once more what is wrong */
        PyErr_Clear();
    if (needed && compute(machine, plan, PyTuple_GET_ITEM(late, LATE_RESULTS), PyTuple_GET_ITEM(late, LATE_OPERANDS)) == 1)
        event = append_event(machine, name, plan, PyTuple_GET_ITEM(late, LATE_READS), PyTuple_GET_ITEM(late, LATE_WRITES), label);
    Py_XDECREF(late), Py_XDECREF(needed);
    return event;
}

/* Items of one tuple, and of another behind it: Picks.of, of both as one. */
static PyObject *picked(PyObject *picks, PyObject *before, PyObject *tensors)
{
    PyObject *numbers = (PyObject *)Py_TYPE(picks) == Picks ? SLOT(picks, Picks_numbers) : NULL;
    Py_ssize_t first = PyTuple_GET_SIZE(before), all = first + PyTuple_GET_SIZE(tensors);
    PyObject *found = numbers ? PyTuple_New(PyTuple_GET_SIZE(numbers)) : PyErr_Format(PyExc_TypeError, "expected Picks, got %R", picks);
    for (Py_ssize_t i = 0; found && i < PyTuple_GET_SIZE(numbers); i++) {
        Py_ssize_t n = PyLong_AsSsize_t(PyTuple_GET_ITEM(numbers, i));
        if (n < 0 || n >= all) {
            Py_CLEAR(found);
            PyErr_SetString(PyExc_IndexError, "Picks of fewer");
        } else
            PyTuple_SET_ITEM(found, i, Py_NewRef(n < first ? PyTuple_GET_ITEM(before, n) : PyTuple_GET_ITEM(tensors, n - first)));
    }
    return found;
}

/* Whether two regions are of tensors that share no byte, for all that regions._beside knows. */
static int are_of_others(PyObject *region, PyObject *other)
{
    PyObject *a = PyTuple_GET_ITEM(region, REGION_ALLOCATION), *b = PyTuple_GET_ITEM(other, REGION_ALLOCATION);
    if (a == b || PyTuple_GET_ITEM(a, ALLOCATION_ADDRESS) == Py_None || PyTuple_GET_ITEM(b, ALLOCATION_ADDRESS) == Py_None)
        return a != b;
    return PyUnicode_Compare(PyTuple_GET_ITEM(a, ALLOCATION_BUFFER), PyTuple_GET_ITEM(b, ALLOCATION_BUFFER)) != 0;
}

/* Whether regions.check_overlaps surely finds nothing in an event: results are of tensors of their own, or lie where what is read does. */
static int is_clear(PyObject *event, PyObject *rules)
{
    PyObject *reads = SLOT(event, Event_reads), *writes = SLOT(event, Event_writes);
    int streams = PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(rules, RULES_ORDER), "stream") == 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(writes); i++) {
        PyObject *written = PyTuple_GET_ITEM(writes, i);
        for (Py_ssize_t j = 0; j < PyTuple_GET_SIZE(reads); j++)
            if (!(streams && PyTuple_GET_ITEM(reads, j) == written) && !are_of_others(PyTuple_GET_ITEM(reads, j), written))
                return 0;
        for (Py_ssize_t j = 0; j < i; j++)
            if (!are_of_others(PyTuple_GET_ITEM(writes, j), written))
                return 0;
    }
    return 1;
}

static PyObject *perform_known(PyObject *machine, PyObject *kind, PyObject *known, PyObject *tensors, PyObject *label)
{
    PyObject *plan = PyTuple_GET_ITEM(known, KNOWN_PLAN), *check = PyTuple_GET_ITEM(known, KNOWN_CHECK), *event = NULL;
    PyObject *reads = picked(PyTuple_GET_ITEM(known, KNOWN_READS), no_arguments, tensors);
    PyObject *writes = picked(PyTuple_GET_ITEM(known, KNOWN_WRITES), no_arguments, tensors);
    PyObject *operands = picked(PyTuple_GET_ITEM(known, KNOWN_OPERANDS), SLOT(plan, Plan_operands), tensors);
    int is_whole = reads && writes && operands;
    PyObject *name = PyTuple_GET_ITEM(kind, KIND_NAME);
    int is_usual = is_whole && is_frequent(machine, plan, reads);
    if (is_usual && SLOT(plan, Plan_late) != Py_None)
        event = carry_out_late(machine, name, plan, operands, label);
    else if (is_usual)
        event = carry_out_plan(machine, name, plan, reads, writes, operands, label);
    if (is_whole && !event && !PyErr_Occurred())
        event = PyObject_CallMethodObjArgs(machine, n_perform, kind, plan, reads, writes, operands, label, NULL);
    if (event && check != Py_None && !is_clear(event, PyTuple_GET_ITEM(kind, KIND_RULES))) {
        PyObject *checked = PyObject_CallFunctionObjArgs(check, event, PyTuple_GET_ITEM(kind, KIND_RULES), NULL);
        if (!checked)
            Py_CLEAR(event);
        Py_XDECREF(checked);
    }
    Py_XDECREF(reads), Py_XDECREF(writes), Py_XDECREF(operands);
    return event;
}

/* Carry out a call whose plan is known; NULL without an error where Python has to, or says what is wrong. */
static PyObject *execute_known(PyObject *machine, PyObject *kind, PyObject *args, PyObject *kwargs)
{
    PyObject *listed = PyList_New(0), *key = NULL, *tensors = NULL, *event = NULL, *known = NULL;
    PyObject *label = Py_XNewRef(PyDict_GetItemWithError(kwargs, n_name));
    label = label ? label : Py_NewRef(Py_None);
    int is_planned = PyTuple_GET_ITEM(kind, KIND_RULES) != Py_None;
    if (listed && is_planned && PyTuple_GET_SIZE(args) <= PyLong_AsSsize_t(PyTuple_GET_ITEM(kind, KIND_LABEL)))
        key = key_of(PyTuple_GET_ITEM(kind, KIND_EFFECT), args, kwargs, label, listed);
    if (key)
        known = Py_XNewRef(PyDict_GetItemWithError(SLOT(machine, Machine_plans), key));
    if (known && (tensors = PyList_AsTuple(listed)))
        event = perform_known(machine, kind, known, tensors, label);
    else if (PyErr_ExceptionMatches(PyExc_Exception))
        PyErr_Clear();
    Py_XDECREF(listed), Py_XDECREF(key), Py_XDECREF(known), Py_XDECREF(tensors), Py_DECREF(label);
    return event;
}

PyObject *execute(PyObject *machine, PyObject *const *given, Py_ssize_t count)
{
    if (count != 3 || !PyTuple_Check(given[0]) || !PyTuple_CheckExact(given[1]) || !PyDict_CheckExact(given[2])) {
        PyErr_SetString(PyExc_TypeError, "execute takes a kind, a tuple and a dict");
        return NULL;
    }
    PyObject *event = is_machine(machine) ? execute_known(machine, given[0], given[1], given[2]) : NULL;
    return event || PyErr_Occurred() ? event : call_in_python(execute_in_python, machine, given, count, NULL);
}

/* Tell a machine the kernel's line that calls: 1; 0 where it is not known. */
static int tell_line(PyObject *machine)
{
    PyFrameObject *frame = frame_of_kernel();
    PyObject *line = frame ? known_at(SLOT(SLOT(machine, Machine_lines), Lines_known), frame) : NULL;
    if (line)
        set_slot(machine, Machine_line, Py_NewRef(line));
    Py_XDECREF(frame);
    return line != NULL;
}

PyObject *carry_out(PyObject *Py_UNUSED(module), PyObject *const *given, Py_ssize_t count)
{
    PyObject *event = NULL, *machine = PyObject_GetAttr(current, n_machine);
    if (machine && count == 3 && is_machine(machine))
        if (SLOT(machine, Machine_rounds) == Py_None && tell_line(machine))
            event = execute_known(machine, PyTuple_GET_ITEM(given[0], DECLARED_KIND), given[1], given[2]);
    Py_XDECREF(machine);
    return event || PyErr_Occurred() ? event : PyObject_Vectorcall(carry_out_in_python, given, count, NULL);
}
