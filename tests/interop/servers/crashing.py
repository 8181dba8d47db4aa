"""A stdio server that dies when a message has a certain word in it: `crashing.py COMMAND ARGS…`."""

import subprocess
import sys

server = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)
for line in sys.stdin.buffer:
    if b"crash-now" in line:
        server.kill()
        sys.exit(3)
    server.stdin.write(line)
    server.stdin.flush()
server.stdin.close()
sys.exit(server.wait())
