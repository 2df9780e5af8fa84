//! The supervisor of everything that runs in the background.
