/* bfloat16 to float32 and back, compiled: the loops of triptych.simulator.bfloat16 in one pass each, on the bits.
 *
 * What it is given are arrays of one shape, of unsigned integers of two and of four bytes, however they lie.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* A compiler that can makes each loop for several widths of registers, of which the processor's own is taken. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define FOR_EACH_WIDTH __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_WIDTH
#endif

typedef void Row(const char *from, char *to, Py_ssize_t count);

FOR_EACH_WIDTH static void widen_row(const char *from, char *to, Py_ssize_t count)
{
    const uint16_t *halves = (const uint16_t *)from;
    uint32_t *words = (uint32_t *)to;
    for (Py_ssize_t i = 0; i < count; i++)
        words[i] = (uint32_t)halves[i] << 16;
}

/* To nearest even; of a NaN the sign is kept, as NumPy's cast does. */
FOR_EACH_WIDTH static void round_row(const char *from, char *to, Py_ssize_t count)
{
    const uint32_t *words = (const uint32_t *)from;
    uint16_t *halves = (uint16_t *)to;
    for (Py_ssize_t i = 0; i < count; i++) {
        uint32_t word = words[i], upper = word >> 16;
        int is_nan = (word & 0x7fffffff) > 0x7f800000;
        halves[i] = (uint16_t)(is_nan ? (upper & 0x8000) | 0x7fc0 : (word + 0x7fff + (upper & 1)) >> 16);
    }
}

/* Every row of two arrays, from dimension d on; `inner` is the one along a row. */
static void each_row(Row *row, const Py_buffer *from, const Py_buffer *to, int inner, int d, const char *first, char *first_to)
{
    if (d == from->ndim)
        row(first, first_to, from->shape[inner]);
    else
        for (Py_ssize_t i = 0; i < (d == inner ? 1 : from->shape[d]); i++)
            each_row(row, from, to, inner, d + 1, first + i * from->strides[d], first_to + i * to->strides[d]);
}

/* The longest dimension along which the elements of an array lie side by side in both; -1 without one. */
static int along(const Py_buffer *from, const Py_buffer *to)
{
    int found = -1;
    for (int d = 0; d < from->ndim; d++)
        if (from->strides[d] == from->itemsize && to->strides[d] == to->itemsize && (found < 0 || from->shape[d] > from->shape[found]))
            found = d;
    return found;
}

static int is_aligned(const Py_buffer *array)
{
    uintptr_t all = (uintptr_t)array->buf;
    for (int d = 0; d < array->ndim; d++)
        all |= (uintptr_t)array->strides[d];
    return all % (uintptr_t)array->itemsize == 0;
}

/* Whether it was done; if not, they lie so that NumPy is as quick. */
static PyObject *cast(Row *row, PyObject *args, Py_ssize_t size, Py_ssize_t size_to)
{
    PyObject *source, *target;
    Py_buffer from, to;
    if (!PyArg_ParseTuple(args, "OO", &source, &target) || PyObject_GetBuffer(source, &from, PyBUF_STRIDED_RO))
        return NULL;
    if (PyObject_GetBuffer(target, &to, PyBUF_STRIDED)) {
        PyBuffer_Release(&from);
        return NULL;
    }
    int is_one = from.ndim == to.ndim && from.itemsize == size && to.itemsize == size_to, done = 0;
    for (int d = 0; is_one && d < from.ndim; d++)
        is_one = from.shape[d] == to.shape[d];
    if (!is_one)
        PyErr_SetString(PyExc_TypeError, "arrays of one shape, with elements of two and of four bytes");
    else if (is_aligned(&from) && is_aligned(&to)) {
        int inner = along(&from, &to);
        if ((done = PyBuffer_IsContiguous(&from, 'C') && PyBuffer_IsContiguous(&to, 'C')))
            row(from.buf, to.buf, from.len / size);
        else if ((done = inner >= 0))
            each_row(row, &from, &to, inner, 0, from.buf, to.buf);
    }
    PyBuffer_Release(&from), PyBuffer_Release(&to);
    return is_one ? PyBool_FromLong(done) : NULL;
}

static PyObject *widen(PyObject *Py_UNUSED(module), PyObject *args)
{
    return cast(widen_row, args, 2, 4);
}

static PyObject *narrow(PyObject *Py_UNUSED(module), PyObject *args)
{
    return cast(round_row, args, 4, 2);
}

static PyMethodDef functions[] = {
    {"widen", widen, METH_VARARGS, "Bits of bfloat16 to those of float32; whether it was done."},
    {"narrow", narrow, METH_VARARGS, "Bits of float32 rounded to those of bfloat16; whether it was done."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "casts", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_casts(void)
{
    return PyModule_Create(&definition);
}
