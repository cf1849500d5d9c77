"""Reading bytes of Thrift's compact protocol, one value after the other.

References
----------
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from collections.abc import Iterator

TRUE, FALSE, BYTE, SHORT, INT, LONG, DOUBLE, BINARY, LIST, SET, MAP, STRUCT, UUID = range(1, 14)
"""Types of fields and elements."""

_FIXED = {TRUE: 1, FALSE: 1, BYTE: 1, DOUBLE: 8, UUID: 16}
_DEEPEST = 32
"""Values within one another; in the metadata of Parquet there are 8."""


class Cursor:
    """A place in bytes. Its methods raise IndexError where the bytes end, and ValueError where they are no Thrift."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def fields(self, depth: int = 0) -> Iterator[tuple[int, int]]:
        """Number and type of each field of the structure here; what the caller does not read is passed over."""
        number = 0
        while kind := (head := self._byte()) & 15:
            number = number + (head >> 4) if head >> 4 else self.integer()
            start = self.at
            yield number, kind
            if self.at == start and kind not in (TRUE, FALSE):  # whose value is the type
                self._pass(kind, depth)

    def elements(self, kind: int, expected: int) -> Iterator[None]:
        """As many as the list here has; the caller reads each."""
        size, element = self._list_header()
        if kind != LIST or (size and element != expected):
            raise ValueError("Its metadata have a field of another type than Parquet's.")
        for _ in range(size):
            yield

    def integer(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)

    def binary(self) -> bytes:
        size = self._unsigned()
        start = self.at
        self._skip(size)
        return self._data[start : self.at]

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self._data):
            raise IndexError(self.at)

    def _unsigned(self) -> int:
        value = shift = 0
        while (byte := self._byte()) >= 128:
            value |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                raise ValueError("Its metadata have a number that is too long.")
        return value | byte << shift

    def _list_header(self) -> tuple[int, int]:
        head = self._byte()
        return head >> 4 if head < 0xF0 else self._unsigned(), head & 15

    def _pass(self, kind: int, depth: int) -> None:
        """Go on to the end of a value."""
        if depth > _DEEPEST:
            raise ValueError("Its metadata are nested too deeply.")
        if kind in (SHORT, INT, LONG):
            self._unsigned()
        elif kind == BINARY:
            self.binary()
        elif kind == STRUCT:
            for _ in self.fields(depth + 1):
                pass
        elif kind in (LIST, SET):
            size, element = self._list_header()
            for _ in range(size):
                self._pass(element, depth + 1)
        elif kind == MAP:
            size = self._unsigned()
            kinds = self._byte() if size else 0
            for _ in range(size):
                self._pass(kinds >> 4, depth + 1)
                self._pass(kinds & 15, depth + 1)
        elif kind in _FIXED:
            self._skip(_FIXED[kind])
        else:
            raise ValueError("Its metadata have a type that there is not.")
