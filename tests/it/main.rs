//! The stories, in one binary.

mod crash;
mod model;
mod sim;
mod source_contract;
mod tidy;
