"""Sessions: conversations with an audience, over WebSocket. It knows neither HTTP routes nor the
options of a server.

A ``Host`` runs a conversation, here or elsewhere; a ``Session`` keeps the log of what happens in it
and tells its clients.
"""
