"""Readers, one per official layout; each returns a list of :class:`vseam_lib.triples.VQATriple`."""
