"""A client of the HTTP API: ``client`` for programs on Twisted, ``blocking`` for short commands.

What can be asked is described once, as data, in ``calls`` and ``streams``; both carry out the same
descriptions.
"""
