"""Characters that cannot be seen, or that change how others are shown, written out as escapes."""

import re

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters; tab and line feed are white space
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"  # directions, separators, zero width without a joiner
    "\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff\U000e0000-\U000e007f"
    + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0x10000, 0x110000, 0x10000))
    + "]"
)


def visible(text: str) -> str:
    """The text with control characters, changes of direction, surrogates and noncharacters as `\\x1b` or `\\u202e`.

    What is left is safe in a terminal, can be written as UTF-8 and XML, and reads in the order in which it is stored.
    Letters of all scripts, emoji and the joiners that some scripts need stay.
    """
    return _HIDDEN.sub(lambda match: _escape(ord(match[0])), text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
