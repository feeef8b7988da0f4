"""What can go wrong with an embedding.

    EmbedError          the folder cannot be used, the client is closed, the worker refused the text
     +- DigestMismatch  a file is not the one its manifest names
     +- TooLong         the text has more word pieces than the model reads
     +- Wordless        the text has no words
     +- Busy            the bounded queue is full: come back later or do without
     +- WorkerDied      the worker process ended or hung; the client restarts it by itself

Backends translate them into `wire.errors.BackendError`; a router that meets one has no opinion.
"""


class EmbedError(Exception):
    """No embedding. The message says which folder, file or worker, and what to do."""


class DigestMismatch(EmbedError):
    """A file's SHA-256 is not the one in manifest.json: a damaged checkout, or somebody changed it by hand."""


class TooLong(EmbedError):
    """The text is longer than what the model reads, and cutting it would change the answer."""


class Wordless(EmbedError):
    """There is nothing in the text that could be read."""


class Busy(EmbedError):
    """As many texts wait as may wait."""


class WorkerDied(EmbedError):
    """The worker process is not there at the moment."""
