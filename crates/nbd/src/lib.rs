//! NBD codec, client and server; a protocol library that knows no hub.
