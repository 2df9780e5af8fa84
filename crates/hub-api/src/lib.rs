//! The REST API of the hub, mountable in another actix application.
