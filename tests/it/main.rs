//! The stories, in one binary.

mod model;
mod sim;
