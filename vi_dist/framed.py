"""Records that carry their own length and checksum, one after the other in a file; stands beside the layers.

A record is the magic, the payload's length (8 bytes), its SHA-256 (32 bytes) and the CRC-32 of these (4 bytes), little
endian, and then the payload. The header's own checksum tells a torn end, which a crash leaves, from a damaged length.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass, replace

_MAGIC = b"vi-rec1\n"
_FIELDS, _CRC = struct.Struct("<8sQ32s"), struct.Struct("<I")
_HEADER = _FIELDS.size + _CRC.size


def framed(payload: bytes) -> bytes:
    """The payload as a record."""
    header = _FIELDS.pack(_MAGIC, len(payload), hashlib.sha256(payload).digest())
    return header + _CRC.pack(zlib.crc32(header)) + payload


def unframed(content: bytes) -> bytes:
    """The payload of a file that holds one record.

    Raises `ValueError`, which says what is wrong, if the file is not exactly what `framed` wrote.
    """
    records = read_records(content)
    if records.fault:
        raise ValueError(records.fault)
    if records.ends != [len(content)]:
        raise ValueError(f"its {len(content)} bytes are not one whole record")
    return records.payloads[0]


@dataclass(frozen=True)
class Records:
    """The whole records at the beginning of a file.

    Attributes:
        payloads: what they hold.
        ends: the byte behind each.
        fault: what is wrong with the next one; empty where nothing follows, or the beginning of a record that a crash
            tore.
    """

    payloads: list[bytes]
    ends: list[int]
    fault: str


def read_records(content: bytes) -> Records:
    """What `framed` wrote, one record after the other, as far as it is whole."""
    found = Records([], [], "")
    place = 0
    while place < len(content):
        payload, fault = _record_at(content, place)
        if payload is None:
            return replace(found, fault=fault and f"the record at byte {place} {fault}")
        place += _HEADER + len(payload)
        found.payloads.append(payload)
        found.ends.append(place)
    return found


def _record_at(content: bytes, place: int) -> tuple[bytes | None, str]:
    """The payload of a record; None and what is wrong, or None and nothing for the beginning of a torn one."""
    header = content[place : place + _HEADER]
    if len(header) < _HEADER:
        return None, "" if _MAGIC.startswith(header[: len(_MAGIC)]) else "does not begin as one"
    magic, length, digest = _FIELDS.unpack_from(header)
    if magic != _MAGIC or _CRC.unpack_from(header, _FIELDS.size)[0] != zlib.crc32(header[: _FIELDS.size]):
        return None, "does not begin as one"
    payload = content[place + _HEADER : place + _HEADER + length]
    if len(payload) < length:
        return None, ""
    if hashlib.sha256(payload).digest() != digest:
        return None, "does not match its checksum"
    return payload, ""
