#!/usr/bin/env python3
"""What the scripts and tests ask a broker on 127.0.0.1:PORT, in Kafka's protocol.

ask.py PORT ready                            succeeds if it answers and lists a broker
ask.py PORT allow USER OPERATION TOPIC …     gives rights on topics, as Write, Describe, Create
ask.py PORT deny USER OPERATION TOPIC …      forbids, whatever else is allowed
"""

import socket
import struct
import sys

METADATA, CREATE_ACLS = (3, 1), (30, 1)
TOPIC, LITERAL = 2, 3
OPERATIONS = {"All": 2, "Read": 3, "Write": 4, "Create": 5, "Delete": 6, "Alter": 7, "Describe": 8, "DescribeConfigs": 10, "IdempotentWrite": 12}
DENY, ALLOW = 2, 3


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def ask(port, api, body):
    request = struct.pack(">hhi", *api, 7) + text("tests") + body
    with socket.create_connection(("127.0.0.1", port), 2) as connection:
        connection.settimeout(10)
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = connection.makefile("rb")
        return answer.read(struct.unpack(">i", answer.read(4))[0])[4:]


def ready(port):
    try:
        return struct.unpack(">i", ask(port, METADATA, struct.pack(">i", 0))[:4])[0] > 0
    except (OSError, struct.error):
        return False


def change(port, permission, user, operation, topics):
    body = struct.pack(">i", len(topics))
    for topic in topics:
        body += struct.pack(">b", TOPIC) + text(topic) + struct.pack(">b", LITERAL)
        body += text("User:" + user) + text("*") + struct.pack(">bb", OPERATIONS[operation], permission)
    answer = ask(port, CREATE_ACLS, body)
    at = 8
    for topic in topics:
        error, length = struct.unpack(">hh", answer[at : at + 4])
        if error:
            sys.exit(f"{topic}: error {error}: {answer[at + 4 : at + 4 + length].decode()}")
        at += 4 + max(length, 0)


port, verb, *words = sys.argv[1:]
if verb == "ready":
    sys.exit(not ready(int(port)))
change(int(port), {"allow": ALLOW, "deny": DENY}[verb], words[0], words[1], words[2:])
