"""The OpenAI wire: pure translation, no I/O.

JSON in becomes a request of the core (``chat_request``); the core's events become JSON or
server-sent events (``chat_response``); its errors become OpenAI's (``errors``). Nothing here
waits, reads or writes.
"""
