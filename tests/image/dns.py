#!/usr/bin/env python3
"""A DNS server for a test: every name has one IPv4 address.

usage: dns.py LISTEN ADDRESS      (on port 53 of LISTEN; says so when it listens, and answers for ever)
"""

import socket
import sys

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 53))
print("listening", flush=True)
while True:
    query, client = server.recvfrom(512)
    end = query.index(0, 12) + 5
    question = query[12:end]
    is_a = question[-4:-2] == b"\0\1"
    # RFC 1035, 4.1.1: an authoritative answer without an error; 4.1.4: the answer's name is a pointer to the question.
    header = query[:2] + b"\x85\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + b"\0\0\0\0"
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\x0a\0\4" + socket.inet_aton(sys.argv[2]) if is_a else b""
    server.sendto(header + question + answer, client)
