/* A transfer that keeps the bits of what it moves, of elements that lie in rows: operands.move. */
#include "frequent.h"

enum { FEW = 512, WIDE = 64 }; /* up to how many rows of any width, and from how many bytes on any number of rows, are quick */

/* Rows of bytes that lie alike in two places but for the distances between them. */
struct rows {
    Py_ssize_t width, many, dimensions, counts[MOST];
    struct there { Py_ssize_t first, steps[MOST], end; } to, from;
};

/* Put one more dimension, outside those that are there, into rows. */
static void put_dimension(struct rows *rows, Py_ssize_t count, Py_ssize_t to, Py_ssize_t from)
{
    if (rows->dimensions == 0 && to == rows->width && from == rows->width) {
        rows->width *= count;
        return;
    }
    rows->many *= count;
    rows->counts[rows->dimensions] = count;
    rows->to.steps[rows->dimensions] = to;
    rows->from.steps[rows->dimensions++] = from;
}

/* The rows of two tensors of one shape and dtype, from the innermost dimension out: 1; 0 if they are not of the frequent kind. */
static int find_rows(PyObject *dst, PyObject *src, Py_ssize_t size, struct rows *rows)
{
    PyObject *shape = SLOT(dst, Tensor_shape), *to = SLOT(dst, Tensor_strides), *from = SLOT(src, Tensor_strides);
    rows->width = size, rows->many = 1, rows->dimensions = 0;
    rows->to.first = size * PyLong_AsSsize_t(SLOT(dst, Tensor_offset));
    rows->from.first = size * PyLong_AsSsize_t(SLOT(src, Tensor_offset));
    for (Py_ssize_t d = PyTuple_GET_SIZE(shape) - 1; d >= 0; d--) {
        Py_ssize_t count = PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, d));
        if (count > 1)
            put_dimension(rows, count, size * PyLong_AsSsize_t(PyTuple_GET_ITEM(to, d)), size * PyLong_AsSsize_t(PyTuple_GET_ITEM(from, d)));
    }
    rows->to.end = rows->to.first + rows->width, rows->from.end = rows->from.first + rows->width;
    for (Py_ssize_t d = 0; d < rows->dimensions; d++) { /* what is written lies row behind row */
        if (rows->to.steps[d] < rows->to.end - rows->to.first || rows->from.steps[d] < 0)
            return 0;
        rows->to.end += rows->to.steps[d] * (rows->counts[d] - 1);
        rows->from.end += rows->from.steps[d] * (rows->counts[d] - 1);
    }
    return !PyErr_Occurred() && rows->to.first >= 0 && rows->from.first >= 0 && (rows->many <= FEW || rows->width >= WIDE);
}

static void copy_rows(char *to, const char *from, const struct rows *rows, Py_ssize_t d)
{
    if (d == 0) {
        memcpy(to, from, rows->width);
        return;
    }
    for (Py_ssize_t i = 0; i < rows->counts[d - 1]; i++)
        copy_rows(to + i * rows->to.steps[d - 1], from + i * rows->from.steps[d - 1], rows, d - 1);
}

/* Whether both places are within their bytes, and share none. */
static int is_apart(const Py_buffer *to, const Py_buffer *from, const struct rows *rows)
{
    const char *a = to->buf, *b = from->buf;
    return rows->to.end <= to->len && rows->from.end <= from->len
           && (a + rows->to.end <= b + rows->from.first || b + rows->from.end <= a + rows->to.first);
}

int move_bytes(PyObject *dst, PyObject *src)
{
    PyObject *into = SLOT(dst, Tensor_storage), *source = SLOT(src, Tensor_storage), *itemsize;
    struct rows rows;
    Py_buffer to, from;
    if ((PyObject *)Py_TYPE(into) != Storage || (PyObject *)Py_TYPE(source) != Storage || !is_open(into) || !is_open(source)
        || SLOT(dst, Tensor_dtype) != SLOT(src, Tensor_dtype) || SLOT(into, Storage_widened) != Py_False
        || SLOT(source, Storage_widened) != Py_False || PyTuple_GET_SIZE(SLOT(dst, Tensor_shape)) > MOST
        || PyObject_RichCompareBool(SLOT(dst, Tensor_shape), SLOT(src, Tensor_shape), Py_EQ) != 1
        || !(itemsize = PyObject_GetAttr(SLOT(dst, Tensor_dtype), n_itemsize)))
        return 0;
    int done = find_rows(dst, src, PyLong_AsSsize_t(itemsize), &rows) && has_bytes(into) && has_bytes(source);
    Py_DECREF(itemsize);
    if (!done || PyObject_GetBuffer(SLOT(into, Storage__raw), &to, PyBUF_WRITABLE))
        return 0;
    if ((done = !PyObject_GetBuffer(SLOT(source, Storage__raw), &from, PyBUF_SIMPLE))) {
        if ((done = is_apart(&to, &from, &rows)))
            copy_rows((char *)to.buf + rows.to.first, (const char *)from.buf + rows.from.first, &rows, rows.dimensions);
        PyBuffer_Release(&from);
    }
    PyBuffer_Release(&to);
    return done && note_written(into, SLOT(dst, Tensor_layout), Py_False);
}
