//! Plain qcow2 images: create, open a chain, write, read and check.
