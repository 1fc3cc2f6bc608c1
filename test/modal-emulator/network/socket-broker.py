"""Makes sockets inside network namespaces and passes them to the parent, a Node process, over its IPC channel.

A socket belongs for its whole life to the namespace it was made in, so the parent can serve and reach every sandbox
itself: no process and no copying per sandbox. The channel is Node's: one line of JSON a message, and a NODE_HANDLE
message carries a descriptor (lib/internal/child_process.js). Ends when the parent closes the channel or dies.

A request: {"id", "namespace": path, "kind": "listen" | "datagram" | "dial", "address", "port"}.
"""
import ctypes
import json
import os
import selectors
import socket
import time

CLONE_NEWNET = 0x40000000
DIAL_SECONDS = 10

libc = ctypes.CDLL(None, use_errno=True)
home = os.open("/proc/self/ns/net", os.O_RDONLY)
channel = socket.socket(fileno=int(os.environ["NODE_CHANNEL_FD"]))
selector = selectors.DefaultSelector()
dials = {}


def enter(descriptor):
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def socket_inside(namespace, kind):
    descriptor = os.open(namespace, os.O_RDONLY)
    try:
        enter(descriptor)
        return socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)
    finally:
        enter(home)
        os.close(descriptor)


def answer(message):
    channel.sendall(json.dumps(message).encode() + b"\n")


def hand_over(identifier, made, kind, **more):
    message = {"cmd": "NODE_HANDLE", "type": kind, "msg": {"id": identifier}, **more}
    socket.send_fds(channel, [json.dumps(message).encode() + b"\n"], [made.fileno()])
    made.close()


def serve(request):
    kind, where = request["kind"], (request["address"], request["port"])
    made = socket_inside(request["namespace"], socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM)
    try:
        if kind == "dial":
            # a server that does not accept must not stop the others: the answer comes when the socket is writable
            made.connect_ex(where)
            dials[made] = (request["id"], time.monotonic() + DIAL_SECONDS)
            selector.register(made, selectors.EVENT_WRITE)
            return
        made.bind(where)
        if kind == "listen":
            made.listen(511)
            hand_over(request["id"], made, "net.Server")
        else:
            hand_over(request["id"], made, "dgram.Socket", dgramType="udp4")
    except OSError:
        made.close()
        raise


def finish_dial(made, number):
    identifier, _ = dials.pop(made)
    selector.unregister(made)
    if number == 0:
        hand_over(identifier, made, "net.Socket")
    else:
        made.close()
        answer({"id": identifier, "error": os.strerror(number)})


def main():
    channel.setblocking(True)
    selector.register(channel, selectors.EVENT_READ)
    unread = b""
    while True:
        for key, _ in selector.select(1 if dials else None):
            if key.fileobj is not channel:
                finish_dial(key.fileobj, key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
                continue
            data = channel.recv(65536)
            if not data:
                return
            *lines, unread = (unread + data).split(b"\n")
            for line in lines:
                request = json.loads(line)
                if "kind" not in request:
                    continue  # Node confirms a descriptor
                try:
                    serve(request)
                except OSError as error:
                    answer({"id": request["id"], "error": str(error)})
        for made in [made for made, (_, until) in dials.items() if until < time.monotonic()]:
            finish_dial(made, 110)


try:
    main()
except (BrokenPipeError, ConnectionResetError):
    pass
