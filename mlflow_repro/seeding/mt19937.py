"""Recover the seed of a Mersenne Twister from its state, without drawing from it.

Notation, after Matsumoto and Nishimura, "Mersenne Twister" (ACM TOMACS 8(1), 1998), and the seeding functions
of their ``mt19937ar.c`` (2002). The generator is a sequence of 32-bit words ``x[0], x[1], ...`` with

    y[k] = (top bit of x[k]) | (low 31 bits of x[k + 1])
    x[k + 624] = x[k + 397] ^ (y[k] >> 1) ^ (0x9908b0df if y[k] is odd else 0)

A state is 624 consecutive words and a position. Seeding makes words 0 to 623 and sets the position to 624;
when a word is wanted at position 624, all words are replaced by the next 624 (a *twist*) and the position
becomes 0.

CPython seeds with ``init_by_array`` from the 32-bit words of ``abs(seed)`` (``Modules/_randommodule.c``),
numpy's legacy generator with ``init_genrand`` from an integer and with ``init_by_array`` from an array of them
(``_legacy_seeding`` in ``numpy/random/_mt19937.pyx``).

Rewinding works on a whole state packed into one Python integer, word i in bits 32i to 32i + 31: some thirty
operations on long integers undo a twist in about 15 microseconds; a loop over the words takes 300.
"""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Kind = Literal["python", "numpy"]
Seed = int | list[int]
"""A number, or the words of an array that numpy was seeded with."""

STATE_WORDS = 624
DEFAULT_REWINDS = 500

_MIDDLE = 397
_WORD = 0xFFFFFFFF
_TOP = 0x80000000
_LOW = 0x7FFFFFFF
_TWIST = 0x9908B0DF
_GENRAND = 1812433253
_GENRAND_INVERSE = pow(_GENRAND, -1, 1 << 32)
_FIRST_MIX = 1664525
_SECOND_MIX = 1566083941
_ARRAY_BASE = 19650218


def _repeat(value: int, count: int, width: int) -> int:
    """Put ``count`` copies of ``value`` side by side, each in a lane of ``width`` bits."""
    return int.from_bytes(value.to_bytes(width // 8, "little") * count, "little")


_ALL = (1 << (32 * STATE_WORDS)) - 1
_HEAD_WORDS = STATE_WORDS - _MIDDLE  # x[0] to x[226]: rewinding them takes words that must be rewound first
_HEAD = (1 << (32 * _HEAD_WORDS)) - 1
_TAIL = (1 << (32 * _MIDDLE)) - 1
_ONES = _repeat(1, STATE_WORDS, 32)
_TWISTS = _repeat(_TWIST, STATE_WORDS, 32)
_TOPS = _repeat(_TOP, STATE_WORDS, 32)
_LOWS = _repeat(_LOW, STATE_WORDS, 32)


def seed_genrand(seed: int) -> list[int]:
    """Make the 624 words of ``init_genrand`` from a 32-bit seed, as ``numpy.random.seed(seed)`` does."""
    previous = seed & _WORD
    words = [previous]
    for index in range(1, STATE_WORDS):
        previous = (_GENRAND * (previous ^ (previous >> 30)) + index) & _WORD
        words.append(previous)
    return words


# Words of a state that are looked at before the whole is compared. They show keys of up to 43 words (1,376
# bits): all usual integers, and texts of up to 108 bytes, of which random.seed makes an integer with their
# SHA-512 behind.
_WINDOW = 48
_FIRST_TERM = 4  # the first word whose two predecessors were both already mixed when it was made
# The window with 64-bit lanes: room for a product of two 32-bit numbers.
_LANES = (1 << (64 * _WINDOW)) - 1
_LANE_WORDS = _repeat(_WORD, _WINDOW, 64)
_LANE_TOP_TWO = _repeat(3, _WINDOW, 64)
_LANE_CARRY = _repeat(_WORD + 1, _WINDOW, 64)
_LANE_INDEX = sum(index << (64 * index) for index in range(_WINDOW))
_LANE_BASE = sum(word << (64 * index) for index, word in enumerate(seed_genrand(_ARRAY_BASE)[:_WINDOW]))


def _pack(words: Sequence[int]) -> int:
    """Pack the words into one integer; ValueError when they are not 624 integers of 32 bits."""
    try:
        return int.from_bytes(struct.pack(f"<{STATE_WORDS}I", *words), "little")
    except (struct.error, TypeError) as error:
        raise ValueError(f"not {STATE_WORDS} words of 32 bits: {error}") from None


def _untwist(differences: int) -> int:
    """Turn ``x[k + 624] ^ x[k + 397]`` into ``y[k]``, in every lane.

    ``y >> 1`` has no top bit and the constant has one: the top bit of the difference tells whether y was odd.
    """
    odd = (differences >> 31) & _ONES
    return ((differences ^ (((odd << 32) - odd) & _TWISTS)) << 1) | odd


def _rewind(state: int) -> tuple[int, bool]:
    """Undo one twist; also say whether ``state`` can be the result of a twist at all.

    The low 31 bits of the earlier word 0 had no influence. They are filled in as if that state, too, came
    from a twist, which is right for every state but the seeded one. The flag compares the low 31 bits of word
    0 of ``state`` with what its other words say that they must be: every true twist passes, one other state
    in 2**31.
    """
    tail = _untwist((state >> (32 * _HEAD_WORDS)) ^ (state & _TAIL))  # y[227] to y[623]
    middle = ((tail >> 32) & _TOPS) | (tail & _LOWS)  # x[228] to x[623]
    head = _untwist((state & _HEAD) ^ ((middle >> (32 * (_MIDDLE - _HEAD_WORDS - 1))) & _HEAD))
    whole = head | (tail << (32 * _HEAD_WORDS))  # y[0] to y[623]
    earlier = (whole & _TOPS) | (((whole & _LOWS) << 32) & _ALL)
    before = _untwist((earlier >> (32 * (STATE_WORDS - 1))) ^ ((earlier >> (32 * (_MIDDLE - 1))) & _WORD))
    genuine = (whole >> (32 * (STATE_WORDS - 1))) & _LOW == state & _LOW
    return earlier | (before & _LOW), genuine


def _find_genrand_seed(state: int) -> int | None:
    """Find the seed for which words 1 and 2 of ``state`` obey ``init_genrand``; None when they do not."""
    first, second = (state >> 32) & _WORD, (state & ((1 << 96) - 1)) >> 64
    if (_GENRAND * (first ^ (first >> 30)) + 2) & _WORD != second:
        return None
    mixed = ((first - 1) * _GENRAND_INVERSE) & _WORD
    return mixed ^ (mixed >> 30)


def _find_array_key(state: int) -> list[int] | None:
    """Find the shortest key for which the first words of ``state`` obey ``init_by_array``; None without one.

    Both loops of ``init_by_array`` mix into a word the word before it, so both are undone lane by lane. What
    is left of word i is ``key[j] + j`` with ``j = (i - 1) % len(key)``: periodic exactly when the key is
    short.
    """
    packed = (state & ((1 << (32 * _WINDOW)) - 1)).to_bytes(4 * _WINDOW, "little")
    final = int.from_bytes(struct.pack(f"<{_WINDOW}Q", *struct.unpack(f"<{_WINDOW}I", packed)), "little")
    mixed = ((final ^ ((final >> 30) & _LANE_TOP_TWO)) * _SECOND_MIX) & _LANE_WORDS
    between = (((final + _LANE_INDEX) & _LANE_WORDS) ^ (mixed << 64)) & _LANES
    mixed = ((between ^ ((between >> 30) & _LANE_TOP_TWO)) * _FIRST_MIX) & _LANE_WORDS
    terms = (between + _LANE_CARRY - ((_LANE_BASE ^ (mixed << 64)) & _LANES)) & _LANE_WORDS
    added = terms.to_bytes(8 * _WINDOW, "little")[8 * _FIRST_TERM :]
    found = added.find(added[:8], 8)
    while found >= 0:
        if found % 8 == 0 and added[found:] == added[:-found]:
            length = found // 8
            values = struct.unpack(f"<{length}Q", added[:found])
            start = (_FIRST_TERM - 1) % length
            return [(values[(place - start) % length] - place) & _WORD for place in range(length)]
        found = added.find(added[:8], found + 1)
    return None


def _seed_array(key: Sequence[int]) -> list[int]:
    """Make the 624 words of ``init_by_array`` from a key of 32-bit words, as ``numpy.random.seed(key)`` does."""
    words = seed_genrand(_ARRAY_BASE)
    index, place = 1, 0
    for step in range(max(STATE_WORDS, len(key)) + STATE_WORDS - 1):
        is_first_loop = step < max(STATE_WORDS, len(key))
        before = words[index - 1] ^ (words[index - 1] >> 30)
        if is_first_loop:
            words[index] = ((words[index] ^ (before * _FIRST_MIX)) + key[place] + place) & _WORD
        else:
            words[index] = ((words[index] ^ (before * _SECOND_MIX)) - index) & _WORD
        index, place = index + 1, (place + 1) % len(key)
        if index == STATE_WORDS:
            words[0], index = words[-1], 1
    words[0] = _TOP
    return words


def _candidates(state: int, kind: Kind) -> Iterator[tuple[Seed, Sequence[int]]]:
    """The seeds that ``state`` looks as if it came from, each with the words that it makes."""
    seed = _find_genrand_seed(state) if kind == "numpy" else None
    if seed is not None:
        yield seed, seed_genrand(seed)
    key = _find_array_key(state)
    if key is not None and kind == "numpy":
        yield key, _seed_array(key)
    elif key is not None:
        number = sum(word << (32 * place) for place, word in enumerate(key))
        # A generator of our own, to compare with.
        yield number, random.Random(number).getstate()[1][:-1]  # noqa: S311


def _explain(state: int, kind: Kind, *, twisted: bool) -> Seed | None:
    """Find the seed that makes exactly ``state``; of word 0 of a rewound state only the top bit is known."""
    for seed, words in _candidates(state, kind):
        difference = _pack(words) ^ state
        if difference == 0 or (twisted and difference <= _LOW):
            return seed
    return None


def _origins(state: int, position: int, max_rewinds: int) -> Iterator[tuple[int, bool]]:
    """Yield the states that the seeded one may be, newest first, with a flag: rewound to, or as it is."""
    if position == STATE_WORDS:
        yield state, False
    # Word 0 has exactly this value in a state that was initialised and not drawn from yet (in Python always,
    # in numpy when it came from the operating system or from seed(2**31)); else by a chance of one in 2**32.
    untouched = state & _WORD == _TOP
    if untouched or not 0 < position <= STATE_WORDS:
        return
    for rewinds in range(max_rewinds):
        state, genuine = _rewind(state)
        if rewinds == 0 and not genuine:
            return
        yield state, True


def recover_seed(
    words: Sequence[int],
    position: int,
    *,
    kind: Kind,
    max_rewinds: int = DEFAULT_REWINDS,
    earlier: tuple[Sequence[int], Seed | None] | None = None,
) -> Seed | None:
    """Find the seed that a Mersenne Twister was given, from its present state; None when no seed explains it.

    Args:
        words: the 624 words: ``random.getstate()[1][:-1]``, or the key in numpy's
            ``get_state(legacy=False)``.
        position: the index of the next word, 1 to 624.
        kind: how it was seeded. ``"python"``: by ``random.seed``; the result is ``abs(seed)``, of at most
            1,376 bits; for a text, bytes or a float it is the integer that Python made of it. ``"numpy"``: by
            ``numpy.random.seed``, with an integer or an array of at most 43 words.
        max_rewinds: how many twists of 624 words to look back, at about 20 (numpy) or 30 (python)
            microseconds each. One ``random.random()`` takes two words, so the default of 500 looks back over
            156,000 of them.
        earlier: the words of an earlier state of this generator, and what was found for it. A search that
            arrives there ends with that result, so that looking again costs only what was drawn since.

    A seed that is found is true: seeding with it and drawing gives ``words``. The seeded state is made again
    from the seed and compared whole, and a rewind is the exact inverse of a twist; the first one is checked
    to be one.

    Raises:
        ValueError: ``words`` are not 624 integers of 32 bits.

    """
    state = _pack(words)
    anchor = None if earlier is None else _pack(earlier[0])
    if earlier is not None and state == anchor:
        return earlier[1]
    for origin, twisted in _origins(state, position, max_rewinds):
        seed = _explain(origin, kind, twisted=twisted)
        if seed is not None:
            return seed
        if twisted and earlier is not None and anchor is not None and origin ^ anchor <= _LOW:
            return earlier[1]
    return None


def count_draws(
    earlier: tuple[Sequence[int], int], later: tuple[Sequence[int], int], *, max_rewinds: int = DEFAULT_REWINDS
) -> int | None:
    """How many words were drawn between two states of one generator; None when ``later`` did not come from ``earlier``.

    Each state is its 624 words and its position. Looks back over ``max_rewinds`` twists, and takes what is farther for
    unrelated. Raises ValueError when the words are not 624 integers of 32 bits.
    """
    anchor, state = _pack(earlier[0]), _pack(later[0])
    if anchor == state:
        return later[1] - earlier[1] if later[1] >= earlier[1] else None
    for rewinds in range(max_rewinds):
        state, genuine = _rewind(state)
        if rewinds == 0 and not genuine:
            return None
        if state ^ anchor <= _LOW:
            return (STATE_WORDS - earlier[1]) + rewinds * STATE_WORDS + later[1]
    return None
