"""Requests over the network: the door to HTTP, and behind it httpx's stack or one of our own.

Rule of this package: it knows nothing of providers. A request goes in as data, its answer comes out as status, headers
and bytes, and what goes wrong as one of three deadlines or as what the peer did.
"""
