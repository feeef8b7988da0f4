"""Caller's wire <-> Asked and Chunk. Pure: one file per API, none of them opens a socket or looks at a clock."""
