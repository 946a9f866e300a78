"""Requests over the network: the only way to HTTP, by httpx's stack or one of our own.

Rule of this package: it knows nothing of providers. A request goes in as data; its answer comes out as
status, headers and bytes, and a failure as one of three deadlines or as what the peer did wrong.
"""
