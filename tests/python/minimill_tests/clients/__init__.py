"""Clients for tests, over plain sockets: what is sent and answered is seen as it is."""

from minimill_tests.clients.http import Answer, HttpClient
from minimill_tests.clients.memcached import MemcachedClient
from minimill_tests.clients.valkey import ServerError, ValkeyClient

__all__ = ["Answer", "HttpClient", "MemcachedClient", "ServerError", "ValkeyClient"]
