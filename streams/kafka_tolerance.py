"""Reading what foreign producers may write: kafka-python 3.0.12 gives up on a header whose name is no UTF-8, which Kafka takes over.

What a consumer cannot read stays in front of it for ever, and the partition behind it. Here such a name comes through with its bytes
escaped (`surrogateescape`), so that the message can become a dead letter.
"""

from typing import Any

from kafka.record import memory_records
from kafka.record.default_records import DefaultRecordBatch

_CARRIED = {0xDC80 + number: 0xF780 + number for number in range(128)}
"""Escaped bytes as characters of the private use area: kafka-python encodes names again, to count their bytes."""
_ESCAPED = {carried: escaped for escaped, carried in _CARRIED.items()}


def tolerate_header_names() -> None:
    """Make kafka-python's consumers in this process read header names of any bytes; `header_name` gives them back."""
    memory_records.DefaultRecordBatch = TolerantBatch


def header_name(read: str) -> str:
    """A header's name as it was read, with bytes that are no UTF-8 as `surrogateescape` has them.

    >>> header_name(_Slice(b"a\\xff").decode("utf-8"))
    'a\\udcff'
    """
    return read.translate(_ESCAPED)


class TolerantBatch(DefaultRecordBatch):  # type: ignore[misc]  # kafka-python has no types
    """A batch whose records may have header names of any bytes."""

    _buffer: bytearray
    _pos: int

    def _read_msg(self, *arguments: Any) -> Any:
        start = self._pos
        try:
            return super()._read_msg(*arguments)
        except UnicodeDecodeError:
            self._buffer, self._pos = _Buffer(self._buffer), start
            return super()._read_msg(*arguments)


class _Buffer(bytearray):
    """Bytes whose slices decode whatever they hold."""

    def __getitem__(self, where: Any) -> Any:
        found = super().__getitem__(where)
        return _Slice(found) if isinstance(where, slice) else found


class _Slice(bytes):
    """Bytes that decode whatever they hold."""

    def decode(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> str:
        return super().decode(encoding, errors).translate(_CARRIED)
