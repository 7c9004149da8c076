/* What goes through all elements of an array and computes little, on the bits: the loops of triptych.simulator.bfloat16, to
 * float32 and back in one pass each, and of triptych.simulator.transposing.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

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

/* The two arrays of a call, to be read and to be written to; 0 for an error. */
static int take_both(PyObject *args, Py_buffer *from, Py_buffer *to)
{
    PyObject *source, *target;
    if (!PyArg_ParseTuple(args, "OO", &source, &target) || PyObject_GetBuffer(source, from, PyBUF_STRIDED_RO))
        return 0;
    if (PyObject_GetBuffer(target, to, PyBUF_STRIDED)) {
        PyBuffer_Release(from);
        return 0;
    }
    return 1;
}

/* Whether it was done; if not, they lie so that NumPy is as quick. */
static PyObject *cast(Row *row, PyObject *args, Py_ssize_t size, Py_ssize_t size_to)
{
    Py_buffer from, to;
    if (!take_both(args, &from, &to))
        return NULL;
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

/* m x n elements, whose rows lie `step` and `step_to` apart. */
static void widen_matrix(const char *from, Py_ssize_t step, char *to, Py_ssize_t step_to, Py_ssize_t m, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < m; i++)
        widen_row(from + i * step, to + i * step_to, n);
}

static PyObject *widen(PyObject *Py_UNUSED(module), PyObject *args)
{
    return cast(widen_row, args, 2, 4);
}

static PyObject *narrow(PyObject *Py_UNUSED(module), PyObject *args)
{
    return cast(round_row, args, 4, 2);
}

/* Transposing, by squares of 16 x 16: four times each row is laced with the one that lies half of them below. */

enum { SIDE = 16, BLOCK = 32 /* elements, whose rows on either side stay in the nearest cache */ };
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define LACE(to, from)                                                                                                                \
    for (int r = 0; r < SIDE / 2; r++) {                                                                                              \
        to[2 * r] = __builtin_shufflevector(from[r], from[r + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);            \
        to[2 * r + 1] = __builtin_shufflevector(from[r], from[r + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31); \
    }
#define SQUARE(type)                                                    \
    typedef type row __attribute__((vector_size(SIDE * sizeof(type)))); \
    row a[SIDE], b[SIDE];                                               \
    for (int r = 0; r < SIDE; r++)                                      \
        memcpy(&a[r], from + r * step, sizeof(row));                    \
    LACE(b, a)                                                          \
    LACE(a, b)                                                          \
    LACE(b, a)                                                          \
    LACE(a, b)                                                          \
    for (int r = 0; r < SIDE; r++)                                      \
        memcpy(to + r * step_to, &a[r], sizeof(row));
#endif
#endif
#ifndef SQUARE
#define SQUARE(type)                    \
    for (int r = 0; r < SIDE; r++)      \
        for (int c = 0; c < SIDE; c++) \
            memcpy(to + c * step_to + r * sizeof(type), from + r * step + c * sizeof(type), sizeof(type));
#endif

typedef void Turn(const char *from, Py_ssize_t step, char *to, Py_ssize_t step_to, Py_ssize_t rows, Py_ssize_t columns);

/* m x n elements; all in one function, of which the compiler makes one for each width. */
#define TURN(name, type)                                                                                                         \
    FOR_EACH_WIDTH static void name(const char *all, Py_ssize_t step, char *out, Py_ssize_t step_to, Py_ssize_t m, Py_ssize_t n) \
    {                                                                                                                            \
        for (Py_ssize_t i = 0; i < m; i += SIDE)                                                                                 \
            for (Py_ssize_t j = 0; j < n; j += SIDE) {                                                                           \
                const char *from = all + i * step + j * sizeof(type);                                                            \
                char *to = out + j * step_to + i * sizeof(type);                                                                 \
                if (m - i >= SIDE && n - j >= SIDE) {                                                                            \
                    SQUARE(type)                                                                                                 \
                }                                                                                                                \
                else                                                                                                             \
                    for (Py_ssize_t r = 0; r < m - i && r < SIDE; r++)                                                           \
                        for (Py_ssize_t c = 0; c < n - j && c < SIDE; c++)                                                       \
                            memcpy(to + c * step_to + r * sizeof(type), from + r * step + c * sizeof(type), sizeof(type));       \
            }                                                                                                                    \
    }
TURN(turn_bytes, uint8_t)
TURN(turn_halves, uint16_t)
TURN(turn_words, uint32_t)

/* The bytes that a matrix reaches over, whose rows have no gaps. */
static void reach(const Py_buffer *a, const char **low, const char **high)
{
    Py_ssize_t down = a->shape[0] ? a->strides[0] * (a->shape[0] - 1) : 0;
    *low = (const char *)a->buf + (down < 0 ? down : 0);
    *high = (const char *)a->buf + (down > 0 ? down : 0) + a->shape[1] * a->itemsize;
}

/* Whether two matrices surely share no byte. */
static int are_apart(const Py_buffer *a, const Py_buffer *b)
{
    const char *low, *high, *other_low, *other_high;
    reach(a, &low, &high), reach(b, &other_low, &other_high);
    return high <= other_low || other_high <= low;
}

/* m x n elements of so many bytes, whose rows lie `step` and `step_to` apart; whether it was done. */
static int turn_all(const char *from, Py_ssize_t step, char *to, Py_ssize_t step_to, Py_ssize_t m, Py_ssize_t n, Py_ssize_t itemsize)
{
    Turn *turn = itemsize == 4 ? turn_words : itemsize == 2 ? turn_halves : itemsize == 1 ? turn_bytes : NULL;
    for (Py_ssize_t i = 0; turn && i < m; i += BLOCK)
        for (Py_ssize_t j = 0; j < n; j += BLOCK)
            turn(from + i * step + j * itemsize, step, to + j * step_to + i * itemsize, step_to, m - i < BLOCK ? m - i : BLOCK,
                 n - j < BLOCK ? n - j : BLOCK);
    return turn != NULL;
}

static PyObject *transpose(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer from, to;
    if (!take_both(args, &from, &to))
        return NULL;
    int fits = from.ndim == 2 && to.ndim == 2 && from.itemsize == to.itemsize && from.shape[0] == to.shape[1] && from.shape[1] == to.shape[0];
    int done = fits && from.strides[1] == from.itemsize && to.strides[1] == to.itemsize && are_apart(&from, &to)
               && turn_all(from.buf, from.strides[0], to.buf, to.strides[0], from.shape[0], from.shape[1], from.itemsize);
    PyBuffer_Release(&from), PyBuffer_Release(&to);
    if (!fits) {
        PyErr_SetString(PyExc_TypeError, "two matrices, of which one has the transposed shape of the other");
        return NULL;
    }
    return PyBool_FromLong(done);
}

static PyMethodDef functions[] = {
    {"widen", widen, METH_VARARGS, "Bits of bfloat16 to those of float32; whether it was done."},
    {"narrow", narrow, METH_VARARGS, "Bits of float32 rounded to those of bfloat16; whether it was done."},
    {"transpose", transpose, METH_VARARGS, "The bits of a matrix to those of another, transposed; whether it was done."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "casts", NULL, -1, functions, NULL, NULL, NULL, NULL};

/* For frequent, which has no arrays of what it turns and widens. */
static int add_function(PyObject *module, const char *name, void *function)
{
    PyObject *capsule = PyCapsule_New(function, name, NULL);
    int failed = !capsule || PyModule_AddObjectRef(module, name, capsule);
    Py_XDECREF(capsule);
    return failed;
}

PyMODINIT_FUNC PyInit_casts(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module && (add_function(module, "turning", (void *)turn_all) || add_function(module, "widening", (void *)widen_matrix)))
        Py_CLEAR(module);
    return module;
}
