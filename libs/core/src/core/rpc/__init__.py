"""gRPC as every service speaks it: `server.serve`, `client.channel`, and what travels beside a message.

`status` maps the tree of errors to gRPC status and back, `context` holds who calls, `metadata` the names of keys.
"""
