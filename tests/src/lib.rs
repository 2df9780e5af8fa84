//! End-to-end tests: the real processes together, on real parts.
