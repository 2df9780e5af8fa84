//! What a folder lists, refuses and reads.

mod inventory;
mod layers;
mod reading;
