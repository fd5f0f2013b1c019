"""A small gRPC server for calls that carry tokens: HTTP/2 on asyncio, all of one moment's frames in one write.

It serves calls with one request message, and answers with one message or a stream of them. What it leaves out:
streaming requests, compression, server push, TLS.
"""
