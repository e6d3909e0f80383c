# mypy: allow-untyped-defs
"""Vector code for products of matrices, written out for LLVM: its vectoriser would not find it.

Factors come in packed: a panel of the left factor holds ROWS rows, one of the right factor
VECTORS vectors of columns, both [k, width], so that a product reads memory in order. A panel has
three planes, what Gauss's trick makes of real and imaginary parts: with s = 1, or -1 where the
right factor is conjugated, a_re, -s (a_re + a_im), a_im - a_re on the left and b_re + s b_im, b_im,
b_re on the right. The product of the first planes and that of the second add up to the real part,
that of the first and that of the third to the imaginary part.

Addresses, and distances in memory, are in bytes. ``like`` is any array of the numbers' type.
"""

from __future__ import annotations

from typing import Any

from snn_delays.runtime import numba_jit

if numba_jit.available():
    from llvmlite import ir
    from numba.core import cgutils, types
    from numba.core.registry import cpu_target
    from numba.extending import intrinsic
else:

    def intrinsic(function):
        """Nothing compiles it."""
        return function


def _shape() -> tuple[int, int, int]:
    """Bytes of a vector, rows and vectors of a tile: its sums are what the registers can hold.

    With AVX-512 a tile is square, as batches and layers are multiples of 16 more often than of 12
    or 32. Numba's own settings decide, since they are what its cache tells machines apart by.
    """
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    if "+avx512f" in features:
        return 64, 16, 1
    if "+avx" in features:
        return 32, 6, 2
    return 16, 6 if triple.startswith("x86") else 12, 2


@intrinsic
def float_of_bits(context, bits):
    """The float32 whose bits an int32 holds."""

    def emit(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), emit


VECTOR, ROWS, VECTORS = _shape() if numba_jit.available() else (16, 6, 2)
UNROLL = 2  # steps of k between two fetches


class _Code:
    """Emits code for numbers of one type, at the builder's place."""

    def __init__(self, builder: Any, number: Any) -> None:
        self.builder = builder
        self.size = number.bitwidth // 8
        self.number = ir.FloatType() if self.size == 4 else ir.DoubleType()
        self.lanes = VECTOR // self.size
        self.word, self.index = ir.IntType(64), ir.IntType(32)

    def vector(self, lanes):
        return ir.VectorType(self.number, lanes)

    def call(self, name, result, *arguments):
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, arguments)

    def multiply_add(self, a, b, c):
        """``a b + c``, rounded once where the machine can."""
        return self.call(f"llvm.fmuladd.v{a.type.count}f{8 * self.size}", a.type, a, b, c)

    def fetch(self, address):
        """Into the second cache, to be read."""
        pointer = self.builder.inttoptr(address, ir.IntType(8).as_pointer())
        self.call("llvm.prefetch.p0", ir.VoidType(), pointer, *map(self.index, (0, 2, 1)))

    def after(self, address, numbers):
        return self.builder.add(address, self.word(numbers * self.size))

    def offset(self, address, distance, times):
        return self.builder.add(address, self.builder.mul(distance, self.word(times)))

    def load(self, address, kind):
        value = self.builder.load(self.builder.inttoptr(address, kind.as_pointer()))
        value.align = self.size
        return value

    def store(self, value, address):
        self.builder.store(
            value, self.builder.inttoptr(address, value.type.as_pointer())
        ).align = self.size

    def pick(self, a, b, lanes):
        """Lanes of a, then of b, by number."""
        chosen = ir.Constant(ir.VectorType(self.index, len(lanes)), lanes)
        return self.builder.shuffle_vector(a, b, chosen)

    def undefined(self, lanes):
        return ir.Constant(self.vector(lanes), ir.Undefined)

    def resize(self, vector, lanes):
        """The first lanes; any numbers behind them where there are fewer."""
        count = vector.type.count
        if count == lanes:
            return vector
        return self.pick(vector, self.undefined(count), [i % count for i in range(lanes)])

    def spread(self, value, lanes):
        one = self.builder.insert_element(self.undefined(lanes), value, self.index(0))
        return self.pick(one, self.undefined(lanes), [0] * lanes)


# ---- a tile of the product ---------------------------------------------------------------------


def _step(code, a, b, sums):
    """One k: ``sums[r, v] += a[r] b[v]``."""
    vectors = [
        code.load(code.after(b, v * code.lanes), code.vector(code.lanes)) for v in range(VECTORS)
    ]
    out = []
    for r in range(ROWS):
        factor = code.spread(code.load(code.after(a, r), code.number), code.lanes)
        new = sums[r * VECTORS : (r + 1) * VECTORS]
        out += [code.multiply_add(factor, v, s) for v, s in zip(vectors, new, strict=True)]
    return out


def _loop(code, times, body, state):
    """The state after ``state <- body(state)`` so many times, in registers throughout."""
    builder = code.builder
    before = builder.block
    inside, end = (builder.append_basic_block(name) for name in ("inside", "end"))
    builder.cbranch(builder.icmp_signed(">", times, code.word(0)), inside, end)
    builder.position_at_end(inside)
    count, *old = (builder.phi(value.type) for value in [times, *state])
    new = [builder.add(count, code.word(1)), *body(old)]
    for phi, start, value in zip([count, *old], [code.word(0), *state], new, strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(value, builder.block)
    builder.cbranch(builder.icmp_signed("<", new[0], times), inside, end)
    inside = builder.block
    builder.position_at_end(end)
    out = []
    for start, value in zip(state, new[1:], strict=True):
        out.append(builder.phi(value.type))
        out[-1].add_incoming(start, before)
        out[-1].add_incoming(value, inside)
    return out


def _sum(code, k, source, state):
    """Add a plane's products; ``state`` is the places in a, in b and in the offsets, and the sums.

    One cache line is fetched every few steps: for what is to be packed next, memory has time now.
    """

    def steps(state, count):
        a, b, offsets, *sums = state
        for _ in range(count):
            sums = _step(code, a, b, sums)
            a, b = code.after(a, ROWS), code.after(b, VECTORS * code.lanes)
        return [a, b, offsets, *sums]

    def unrolled(state):
        offset = code.load(state[2], code.word)
        code.fetch(code.builder.add(source, offset))
        a, b, offsets, *sums = steps(state, UNROLL)
        return [a, b, code.builder.add(offsets, code.word(8)), *sums]

    state = _loop(code, code.builder.sdiv(k, code.word(UNROLL)), unrolled, state)
    return _loop(
        code, code.builder.srem(k, code.word(UNROLL)), lambda state: steps(state, 1), state
    )


def _write(code, sums, out, row):
    for q, value in enumerate(sums):
        to = code.offset(out, row, q // VECTORS)
        code.store(value, code.after(to, q % VECTORS * code.lanes))


@intrinsic
def multiply(context, like, a, b, k, real, imaginary, row, only_real, source, offsets):
    """A tile of the product of two panels, k long, to two addresses with ``row`` between rows.

    Meanwhile lines at ``source`` plus offsets, read from an address, are fetched, one for every two
    steps through a plane.
    """
    signature = types.void(like, *[types.intp] * 6, types.boolean, *[types.intp] * 2)

    def codegen(context, builder, signature, arguments):
        _, a, b, k, real, imaginary, row, only_real, source, offsets = arguments
        code = _Code(builder, like.dtype)
        vector = code.vector(code.lanes)
        count = ROWS * VECTORS
        kept = cgutils.alloca_once(builder, ir.ArrayType(vector, count))
        first = builder.ptrtoint(kept, code.word)
        places = [code.after(first, q * code.lanes) for q in range(count)]
        zeros = [ir.Constant(vector, None)] * count
        state = _sum(code, k, source, [a, b, offsets, *zeros])
        for value, place in zip(state[3:], places, strict=True):
            code.store(value, place)
        with builder.if_else(only_real) as (yes, no):
            with yes:
                _write(code, state[3:], real, row)
            with no:
                state = _sum(code, k, source, state)
                _write(code, state[3:], real, row)
                state[3:] = [code.load(place, vector) for place in places]
                state = _sum(code, k, source, state)
                _write(code, state[3:], imaginary, row)
        return context.get_dummy_value()

    return signature, codegen


# ---- packing -----------------------------------------------------------------------------------


def _left(code, re, im, sign):
    plus = code.builder.fadd(re, im)
    return [re, code.builder.fmul(sign, plus), code.builder.fsub(im, re)]


def _right(code, re, im, sign):
    return [code.multiply_add(sign, im, re), im, re]


def _transposed(code, vectors):
    """As many vectors as each has lanes: first within 128 bits, which is cheap, then those."""
    lanes, part = code.lanes, 16 // code.size
    starts = range(0, lanes, part)
    low = [g + q // 2 + q % 2 * lanes for g in starts for q in range(part)]
    high = [q + part // 2 for q in low]
    even, odd = (
        [x + g + q for x in (0, lanes) for g in starts[i::2] for q in range(part)] for i in (0, 1)
    )
    groups = []
    for g in starts:
        group = vectors[g : g + part]
        for _ in range(part.bit_length() - 1):
            pairs = list(zip(group[: part // 2], group[part // 2 :], strict=True))
            group = [code.pick(*pair, lanes) for pair in pairs for lanes in (low, high)]
        groups.append(group)
    columns = []
    for column in zip(*groups, strict=True):
        rest = list(column)
        for _ in range(len(starts).bit_length() - 1):
            pairs = list(zip(rest[::2], rest[1::2], strict=True))
            rest = [code.pick(*pair, lanes) for lanes in (even, odd) for pair in pairs]
        columns.append(rest)
    return [vector for part in zip(*columns, strict=True) for vector in part]


def _pack_row(planes, width):
    def pack(context, like, re, im, out, plane, sign):
        """Numbers of one k, side by side at re and at im, into the planes of a panel."""
        signature = types.void(like, *[types.intp] * 4, like.dtype)

        def codegen(context, builder, signature, arguments):
            _, re, im, out, plane, sign = arguments
            code = _Code(builder, like.dtype)
            for j in range(0, width(code), code.lanes):
                lanes = min(code.lanes, width(code) - j)
                parts = [code.load(code.after(x, j), code.vector(lanes)) for x in (re, im)]
                for q, value in enumerate(planes(code, *parts, code.spread(sign, lanes))):
                    code.store(value, code.offset(code.after(out, j), plane, q))
            return context.get_dummy_value()

        return signature, codegen

    return intrinsic(pack)


def _pack_block(planes, width, count):
    def pack(context, like, re, im, row, last, out, plane, sign):
        """As many k as a vector has lanes, of rows that lie apart: up to the ``last``, then it."""
        signature = types.void(like, *[types.intp] * 6, like.dtype)

        def codegen(context, builder, signature, arguments):
            code = _Code(builder, like.dtype)
            for j in range(0, count(code), code.lanes):
                rows = range(j, min(j + code.lanes, count(code)))
                _turn(code, planes, width(code), rows, *arguments[1:])
            return context.get_dummy_value()

        return signature, codegen

    return intrinsic(pack)


def _turn(code, planes, width, rows, re, im, row, last, out, plane, sign):
    """Real parts are read back from where they were put: both parts fill too many registers."""
    offsets = [_row_offset(code, row, r, last) for r in rows]
    starts = [code.after(out, k * width + rows[0]) for k in range(code.lanes)]
    to = [[code.offset(start, plane, q) for q in range(3)] for start in starts]
    kept = 2 if planes is _right else 0  # the plane of real parts
    for value, places in zip(_columns(code, re, offsets), to, strict=True):
        code.store(code.resize(value, len(rows)), places[kept])
    spread = code.spread(sign, len(rows))
    for value, places in zip(_columns(code, im, offsets), to, strict=True):
        real = code.load(places[kept], code.vector(len(rows)))
        for q, number in enumerate(planes(code, real, code.resize(value, len(rows)), spread)):
            if q != kept:
                code.store(number, places[q])


def _row_offset(code, row, r, last):
    within = code.builder.icmp_signed("<", code.word(r), last)
    return code.builder.mul(row, code.builder.select(within, code.word(r), last))


def _columns(code, source, rows):
    vectors = [code.load(code.builder.add(source, row), code.vector(code.lanes)) for row in rows]
    return _transposed(code, vectors + [code.undefined(code.lanes)] * (code.lanes - len(rows)))


def _rows(code):
    return ROWS


def _lanes(code):
    return code.lanes


def _wide(code):
    return VECTORS * code.lanes


pack_left_row, pack_right_row = _pack_row(_left, _rows), _pack_row(_right, _wide)
pack_left_block = _pack_block(_left, _rows, _rows)
pack_right_block = _pack_block(_right, _wide, _lanes)  # a vector's part of a panel
