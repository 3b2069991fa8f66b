"""The Jupyter server extension: Tornado handlers, options, statistics. Thin, over the core and
the wire.
"""
