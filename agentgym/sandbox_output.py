"""What a command wrote, as text that is safe to show."""

from __future__ import annotations


def escape_output(data: bytes) -> str:
    r"""Decode what a command wrote for a model to read.

    Bytes that are no UTF-8 become ``U+FFFD``; control characters but newline and tab, and characters that turn the
    direction of text, are written out as ``\x1b`` or ``\u202e``, so that no terminal or reader is steered by them.
    """
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    return "".join(char if _harmless(char) else _written_out(char) for char in text)


def _harmless(char: str) -> bool:
    code = ord(char)
    if code < 0x20:
        return char in "\n\t"
    return not (
        0x7F <= code < 0xA0 or code in (0x200E, 0x200F, 0x61C) or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069
    )


def _written_out(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"
