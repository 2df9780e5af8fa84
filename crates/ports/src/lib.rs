//! The traits through which engines see the catalogue, the VMAs and the repositories.
