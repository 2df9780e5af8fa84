//! The VMA as the hub sees it: an HTTP adapter of the source-node port.
