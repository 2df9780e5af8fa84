//! Verification, restores and read-only exports of restore points.
