/* The key of a call, by which its plan is known: forms.form_of and what Machine.execute puts together. */
#include "frequent.h"

/* What the number of a form follows from: tuples and a dtype that are the same, and equal sizes. */
struct form {
    PyObject *shape, *strides, *dtype, *buffer;
    Py_ssize_t offset, row, first;
};

/* Numbers of forms that were asked for last, each at a place that follows from the form, which they keep alive. */
enum { PLACES = 1 << 10 };
static struct { struct form of; PyObject *number; } numbered[PLACES];

static size_t kept_at(const struct form *form)
{
    size_t place = ((size_t)form->shape >> 4) * 31 + ((size_t)form->strides >> 4) * 17 + ((size_t)form->dtype >> 4) + (size_t)form->offset * 7;
    return (place ^ place >> 10) % PLACES;
}

/* The number of a form: forms.number_of, or found again. */
static PyObject *number_of(PyObject *tensor, PyObject *offset, PyObject *row, PyObject *first)
{
    struct form form = {SLOT(tensor, Tensor_shape), SLOT(tensor, Tensor_strides), SLOT(tensor, Tensor_dtype), SLOT(tensor, Tensor_buffer),
                        PyLong_AsSsize_t(offset), PyLong_AsSsize_t(row), PyLong_AsSsize_t(first)};
    size_t place = kept_at(&form);
    if (numbered[place].number && memcmp(&numbered[place].of, &form, sizeof form) == 0)
        return Py_NewRef(numbered[place].number);
    PyObject *id = PyLong_FromVoidPtr(form.buffer), *number = NULL;
    if (id)
        number = PyObject_CallFunctionObjArgs(form_number, offset, form.shape, form.strides, form.dtype, row, first, id, NULL);
    Py_XDECREF(id);
    if (!number)
        return NULL;
    Py_INCREF(form.shape), Py_INCREF(form.strides), Py_INCREF(form.dtype), Py_INCREF(form.buffer);
    struct form before = numbered[place].of;
    PyObject *known = numbered[place].number;
    numbered[place].of = form;
    numbered[place].number = Py_NewRef(number);
    if (known)
        Py_DECREF(before.shape), Py_DECREF(before.strides), Py_DECREF(before.dtype), Py_DECREF(before.buffer), Py_DECREF(known);
    return number;
}

/* The form of a tensor, which keeps it: forms.form_of. */
static PyObject *form_of(PyObject *tensor)
{
    PyObject *form = SLOT(tensor, Tensor_form);
    if (form != Py_None)
        return Py_NewRef(form);
    PyObject *storage = SLOT(tensor, Tensor_storage), *row = SLOT(storage, Storage_row), *first = SLOT(storage, Storage_partition);
    if (!row || !first) /* of a view that leaves its tensor */
        PyErr_SetString(PyExc_AttributeError, "row");
    int lies_in_rows = row && first ? PyObject_IsTrue(row) : -1;
    form = lies_in_rows < 0 ? NULL : number_of(tensor, lies_in_rows ? SLOT(tensor, Tensor_offset) : row, row, first);
    if (form)
        set_slot(tensor, Tensor_form, Py_NewRef(form));
    return form;
}

/* Add an argument to the key of a call, and its tensors to `listed`: 1; 0 if it has no key; -1 for an error. */
static int add_to_key(PyObject *value, PyObject *key, PyObject *listed)
{
    PyObject *kind = (PyObject *)Py_TYPE(value);
    if (kind == Tensor && SLOT(value, Tensor_index) == Py_None) {
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
    if (PyFloat_CheckExact(value) && PyFloat_AS_DOUBLE(value) != 0) /* 0.0 and -0.0 are equal, and not the same */
        is_plain = 1;
    if (is_plain)
        return is_plain < 0 || PyList_Append(key, kind) || PyList_Append(key, value) ? -1 : 1;
    PyObject *answer = PyObject_CallFunctionObjArgs(describe, value, key, listed, NULL);
    int has_key = answer ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return has_key;
}

PyObject *key_of(PyObject *effect, PyObject *args, PyObject *kwargs, PyObject *label, PyObject *listed)
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
