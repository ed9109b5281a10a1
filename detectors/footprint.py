"""How much memory a fitted detector takes: the arrays it holds, with all that was worked out when it was loaded."""

from collections.abc import Iterator, Mapping
from types import FunctionType, ModuleType

import numpy as np

_PLAIN = (str, int, float, complex, type(None), type, FunctionType, ModuleType)


def held_bytes(thing: object) -> int:
    """Bytes of every array that is reached from `thing`, each buffer counted once.

    >>> bank = np.zeros((10, 4), np.float32)
    >>> held_bytes({"bank": bank, "half": bank[:5], "twice": [bank]})
    160
    """
    total, seen, waiting = 0, set(), [thing]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, _PLAIN):
            continue
        seen.add(id(each))
        if isinstance(each, bytes | bytearray):
            total += len(each)
        elif isinstance(each, memoryview):
            waiting.append(each.obj)
        elif isinstance(each, np.ndarray):
            if each.base is None:
                total += each.nbytes
            else:
                waiting.append(each.base)
        else:
            waiting.extend(_parts(each))
    return total


def _parts(thing: object) -> Iterator[object]:
    if isinstance(thing, Mapping):
        yield from thing.values()
    elif isinstance(thing, list | tuple | set | frozenset):
        yield from thing
    else:
        yield from getattr(thing, "__dict__", {}).values()
        for kind in type(thing).__mro__:
            names = getattr(kind, "__slots__", ())
            for name in (names,) if isinstance(names, str) else names:
                yield getattr(thing, name, None)
