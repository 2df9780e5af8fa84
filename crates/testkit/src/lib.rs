//! Test doubles that pass the same contract suites as the real parts.
