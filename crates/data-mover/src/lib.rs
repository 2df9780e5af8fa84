//! The copy pipeline: extents, read, digest, write, and the manifest it leaves.
