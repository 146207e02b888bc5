#!/usr/bin/env python3
"""Packed corpora, an input a line in the escapes of a byte string, and folders of inputs as libFuzzer wants them.

usage: corpus.py unpack FILE FOLDER    writes each line as a file of the folder
       corpus.py line INPUT ...        prints each file as a line
"""

import codecs
import hashlib
import pathlib
import sys


def line(data: bytes) -> str:
    """As `u8::escape_ascii` does."""
    named = {9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 39: "\\'", 92: "\\\\"}
    return "".join(named.get(b) or (chr(b) if 32 <= b < 127 else f"\\x{b:02x}") for b in data)


def main() -> None:
    match sys.argv[1:]:
        case ["unpack", file, folder]:
            for text in pathlib.Path(file).read_text().splitlines():
                data = codecs.escape_decode(text.encode())[0]
                (pathlib.Path(folder) / hashlib.sha1(data).hexdigest()).write_bytes(data)
        case ["line", *files]:
            for file in files:
                print(line(pathlib.Path(file).read_bytes()))
        case _:
            sys.exit(__doc__)


main()
