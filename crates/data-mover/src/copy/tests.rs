//! The copy, judged by content, by faults and by its other promises.

mod behaviour;
mod faults;
mod models;
