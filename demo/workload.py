"""What the demo traces: an import, and a thousand opens of one file."""

import json

for _ in range(1000):
    with open("/etc/hostname") as file:
        json.dumps(file.readline())
