//! Repositories on disk: images, exports, chains and manifests.
