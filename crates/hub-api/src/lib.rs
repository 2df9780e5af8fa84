#![doc = include_str!("../README.md")]

mod access;
mod answer;
mod auth;
mod backups;
mod certificate;
mod endpoint;
mod events;
mod fence;
mod health;
mod inventory;
mod jobs;
mod malformed;
mod openapi;
mod owed;
mod page;
mod problem;
mod problem_page;
mod remarks;
mod serve;
mod service;
mod state;
mod token;
mod unclaimed;
mod waiting;
mod words;

pub use serve::serve;
pub use service::Api;
pub use state::{Hub, HubFacts};
pub use token::NewToken;
